// Matrix products with a few rows, per weight format: time should follow the bytes of the weights.
//
//   weight_formats_bench [--benchmark_filter=…]
//
// One thread, a chain of layers that no cache holds. Arguments: rows of x.
#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/exec/plan.h"
#include "core/ops/evaluate.h"
#include "core/passes/quantize_graph.h"
#include "core/quant/quant_spec.h"

namespace halftone {
namespace {

constexpr int64_t kSize = 4096;
constexpr int kLayers = 5;

Graph Chain() {
  Graph g("chain");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim{}, Dim{kSize}}});
  std::mt19937 rng(1);
  for (int i = 0; i < kLayers; ++i) {
    Tensor w = Tensor::Create(DataType::kF32, {kSize, kSize}).value();
    for (float& v : w.mutable_data<float>()) v = (static_cast<float>(rng() % 2048) - 1024) * 2e-5f;
    const std::string name = absl::StrCat("l", i);
    x = g.AddNode({.op = "MatMul",
                   .name = name,
                   .inputs = {x, g.AddConstant(absl::StrCat("w", i), std::move(w))},
                   .outputs = {absl::StrCat("y", i)}})
            ->output(0);
  }
  g.AddOutput(x);
  CHECK_OK(InferShapes(g));
  return g;
}

// The plan of a spec; one at a time, they are large.
std::shared_ptr<const Plan> PlanFor(const std::string& text) {
  static std::string current;
  static std::shared_ptr<const Plan> plan;
  if (current == text) return plan;
  plan = nullptr;
  Graph g = Chain();
  const QuantSpec spec = QuantSpec::Parse(text).value();
  if (spec.weights != WeightType::kF32) {
    CHECK_OK(PrepareForQuantization(g, spec));
    CHECK_OK(QuantizeGraph(g, spec, {}).status());
    CHECK_OK(InferShapes(g, {.fold_elements = 0}));
  }
  plan = Plan::Create(std::move(g), {}).value();
  current = text;
  return plan;
}

void BM_Layer(benchmark::State& state, const std::string& spec) {
  SetIntraOpThreads(1);
  Context context(PlanFor(spec));
  Tensor x = Tensor::Create(DataType::kF32, {state.range(0), kSize}).value();
  for (float& v : x.mutable_data<float>()) v = 0.5f;
  CHECK_OK(context.Run({x}).status());
  for (auto _ : state) CHECK_OK(context.Run({x}).status());
  // Per layer.
  state.counters["ms"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kLayers / 1e3,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Register() {
  for (const char* spec : {"fp32", "fp16", "int8/per-channel/weight-only",
                           "int8/per-group-128/weight-only", "int4/per-group-128/weight-only",
                           "int4/per-group-32/weight-only", "uint4/per-group-32/weight-only",
                           "ternary/per-channel/weight-only", "binary/per-channel/weight-only"}) {
    benchmark::RegisterBenchmark(absl::StrCat("BM_Layer/", spec).c_str(),
                                 [spec](benchmark::State& s) { BM_Layer(s, spec); })
        ->Arg(1)
        ->Arg(4)
        ->Arg(16)
        ->Arg(128)
        ->Unit(benchmark::kMillisecond)
        ->MinTime(0.3);
  }
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  halftone::Register();
  benchmark::RunSpecifiedBenchmarks();
}
