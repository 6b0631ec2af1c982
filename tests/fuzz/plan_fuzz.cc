// Any bytes as an ONNX file: import, simplify, plan, and run what is small.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "core/base/checked_math.h"
#include "core/exec/plan.h"
#include "core/onnx/import.h"
#include "core/ops/eval_budget.h"
#include "core/ops/registry.h"
#include "core/passes/pass.h"
#include "core/passes/portable.h"
#include "tests/fuzz/fuzz_target.h"

namespace halftone {
namespace {

// Larger models take longer without showing more.
constexpr int kMaxNodes = 64;
constexpr int64_t kMaxInputElements = 1 << 12;
constexpr int64_t kMaxValueElements = 1 << 20;
// A run may take as long as a model says; the fuzzer has no hour.
constexpr EvalBudget kRunBudget = {.work = 1 << 23, .bytes = 256 << 20};

Shape SmallShape(const TensorSignature& input, std::map<std::string, int64_t>& symbols) {
  Shape shape;
  for (const Dim& d : input.shape) {
    if (d.known()) {
      shape.push_back(d.value);
    } else if (d.symbol.empty()) {
      shape.push_back(2);
    } else {
      shape.push_back(symbols.emplace(d.symbol, 1 + symbols.size() % 4).first->second);
    }
  }
  return shape;
}

Tensor RandomTensor(DataType type, const Shape& shape, std::mt19937& random) {
  Tensor t = *Tensor::Create(type, shape);
  if (t.num_bytes() == 0) return t;
  std::memset(t.mutable_raw(), 0, static_cast<size_t>(t.num_bytes()));
  if (BitWidth(type) < 8) return t;
  DispatchType(type, [&](auto tag) {
    using T = decltype(tag);
    for (T& v : t.mutable_data<T>()) {
      const int n = static_cast<int>(random() % 16) - 4;
      if constexpr (std::is_same_v<T, bool>) {
        v = n > 3;
      } else if constexpr (std::is_integral_v<T>) {
        v = static_cast<T>(n);
      } else {
        v = T(n == 11 ? NAN : static_cast<float>(n) / 2);
      }
    }
  });
  return t;
}

// True when every value's size is known and small.
bool IsSmall(const Graph& graph) {
  for (const Value* v : graph.values()) {
    const std::optional<Shape> shape = Concrete(v->type().shape);
    if (!shape) continue;
    const absl::StatusOr<int64_t> elements = NumElements(*shape);
    if (!elements.ok() || *elements > kMaxValueElements) return false;
  }
  return true;
}

void TryModel(absl::Span<const std::byte> bytes) {
  absl::StatusOr<Graph> graph = ImportOnnx(bytes);
  CheckNotInternal("import", graph.status());
  if (!graph.ok() || graph->nodes().size() > kMaxNodes) return;
  const absl::Status simplified = RunPasses(*graph, PortablePasses());
  CheckNotInternal("passes", simplified);
  if (!simplified.ok()) return;
  const bool small = IsSmall(*graph);
  const absl::StatusOr<std::shared_ptr<const Plan>> plan = Plan::Create(*std::move(graph), {});
  CheckNotInternal("plan", plan.status());
  if (!plan.ok()) return;
  std::map<std::string, int64_t> symbols;
  std::vector<Shape> shapes;
  int64_t elements = 0;
  for (const TensorSignature& input : (*plan)->signature().inputs) {
    shapes.push_back(SmallShape(input, symbols));
    const absl::StatusOr<int64_t> count = NumElements(shapes.back());
    if (!count.ok() || *count > kMaxInputElements) elements = kMaxInputElements + 1;
    if (count.ok()) elements = std::max(elements, *count);
  }
  const absl::Status prepared = (*plan)->Prepare(shapes);
  CheckNotInternal("prepare", prepared);
  if (!prepared.ok() || !small || elements > kMaxInputElements) return;
  std::mt19937 random(1);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < shapes.size(); ++i) {
    inputs.push_back(RandomTensor((*plan)->signature().inputs[i].type, shapes[i], random));
  }
  const ScopedEvalBudget budget(kRunBudget);
  CheckNotInternal("run", Context(*plan).Run(inputs).status());
}

}  // namespace

std::vector<std::string> FuzzWords() {
  std::vector<std::string> words = {"", "ai.onnx", "com.microsoft", "axes", "axis", "N", "value"};
  for (const OpDef& row : AllOps()) words.emplace_back(row.name);
  return words;
}

}  // namespace halftone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  halftone::TryModel(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(data), size));
  return 0;
}
