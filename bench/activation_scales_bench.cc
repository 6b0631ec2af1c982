// What scales per token cost and bf16 arithmetic gains: the feed-forward block of a BERT layer, 768
// → 3072 (Gelu) → 768, with activations that are quantized per tensor and per row, and in floats.
// Arguments: tokens.
//
//   activation_scales_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=20
#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <string>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "core/exec/plan.h"
#include "core/ops/evaluate.h"
#include "core/passes/quantize_graph.h"
#include "core/quant/quant_spec.h"

namespace halftone {
namespace {

constexpr int64_t kWidth = 768, kInner = 3072;

Tensor Random(const Shape& shape, uint32_t seed) {
  std::mt19937 rng(seed);
  Tensor t = Tensor::Create(DataType::kF32, shape).value();
  for (float& v : t.mutable_data<float>()) v = (static_cast<float>(rng() % 2048) - 1024) * 5e-5f;
  return t;
}

Value* Dense(Graph& g, Value* x, const std::string& name, int64_t from, int64_t to) {
  Value* y = g.AddNode({.op = "MatMul",
                        .name = name,
                        .inputs = {x, g.AddConstant(name + "_w", Random({from, to}, 1))},
                        .outputs = {name + "_product"}})
                 ->output(0);
  return g
      .AddNode({.op = "Add",
                .name = name + "_add",
                .inputs = {y, g.AddConstant(name + "_b", Random({to}, 2))},
                .outputs = {name + "_y"}})
      ->output(0);
}

std::shared_ptr<const Plan> PlanFor(const std::string& text) {
  Graph g("block");
  g.opsets()[""] = 20;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim{}, Dim{kWidth}}});
  Value* h = Dense(g, x, "up", kWidth, kInner);
  h = g.AddNode({.op = "Gelu", .name = "gelu", .inputs = {h}, .outputs = {"act"}})->output(0);
  g.AddOutput(Dense(g, h, "down", kInner, kWidth));
  CHECK_OK(InferShapes(g));
  const QuantSpec spec = QuantSpec::Parse(text).value();
  CHECK_OK(PrepareForQuantization(g, spec));
  CHECK_OK(QuantizeGraph(g, spec, {}).status());
  CHECK_OK(InferShapes(g, {.fold_elements = 0}));
  return Plan::Create(std::move(g), {.compute = spec.compute}).value();
}

void BM_Block(benchmark::State& state, const std::string& spec) {
  SetIntraOpThreads(1);
  Context context(PlanFor(spec));
  const Tensor x = Random({state.range(0), kWidth}, 3);
  CHECK_OK(context.Run({x}).status());
  for (auto _ : state) CHECK_OK(context.Run({x}).status());
}

void Register() {
  for (const char* spec :
       {"int8/dynamic", "int8/dynamic-per-token", "fp32/compute=f32", "fp32/compute=bf16"}) {
    benchmark::RegisterBenchmark(absl::StrCat("BM_Block/", spec).c_str(),
                                 [spec](benchmark::State& s) { BM_Block(s, spec); })
        ->Arg(1)
        ->Arg(16)
        ->Arg(128)
        ->Unit(benchmark::kMillisecond)
        ->MinTime(0.05);
  }
}

}  // namespace
}  // namespace halftone

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  halftone::Register();
  benchmark::RunSpecifiedBenchmarks();
}
