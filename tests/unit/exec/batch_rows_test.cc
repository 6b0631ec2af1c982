// Batches that run in parts: when they may, and that the answers are those of the whole.
#include "core/exec/batch_rows.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

using Build = std::function<Value*(Graph&, Value*)>;

// y = build(x) for x f32[batch, 4, 6, 5].
Graph Net(const Build& build, Dim batch = Dim("batch")) {
  Graph g = NewGraph(21);
  Value* x = g.AddInput("x", F32({std::move(batch), 4, 6, 5}));
  g.AddOutput(build(g, x));
  return g;
}
Value* I64(Graph& g, std::vector<int64_t> values) {
  return g.AddConstant(
      "i", Tensor::Of<int64_t>({static_cast<int64_t>(values.size())}, absl::MakeConstSpan(values)));
}
Value* Weights(Graph& g, Shape shape) { return g.AddConstant("w", RandomF32(std::move(shape), 3)); }
Value* Flat(Graph& g, Value* x) { return Apply(g, "Flatten", {x}); }

struct RowsCase {
  std::string name;
  bool independent;
  Build build;
};
class BatchRows : public testing::TestWithParam<RowsCase> {};

// Whatever may run in parts gives the answer of the whole; the rest runs as a whole.
TEST_P(BatchRows, RunInPartsWhereTheyAreIndependent) {
  const RowsCase& c = GetParam();
  for (const int64_t batch : {2, 7}) {
    Graph g = Net(c.build);
    ASSERT_THAT(InferShapes(g), IsOk());
    const Tensor x = RandomF32({batch, 4, 6, 5}, 5);
    HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, {x}));
    HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {.max_batch_bytes = 4096}));
    const Shape shape = {batch, 4, 6, 5};
    HT_ASSERT_OK_AND_ASSIGN(const auto steps, plan->Describe({shape}));
    EXPECT_EQ(steps[0].rule == "parts", c.independent) << steps[0].implementation;
    Context context(plan);
    for (int run = 0; run < 2; ++run) {
      HT_ASSERT_OK_AND_ASSIGN(const auto got, context.Run({x}));
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        EXPECT_LE(Disagreement(got[i], want[i], kAccumulate), 1) << "output " << i;
      }
    }
  }
}

const RowsCase kCases[] = {
    {"Conv", true,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Relu", {Apply(g, "Conv", {x, Weights(g, {64, 4, 3, 3})})});
       return Apply(g, "Add", {y, Weights(g, {1, 64, 1, 1})});
     }},
    {"Classifier", true,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {300, 4, 1, 1})});
       y = Flat(g, Apply(g, "GlobalAveragePool", {y}));
       y = Apply(g, "Gemm", {y, Weights(g, {300, 10}), Weights(g, {10})});
       return Apply(g, "Softmax", {y}, {{"axis", int64_t{1}}});
     }},
    {"Attention", true,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Reshape", {x, I64(g, {-1, 4, 30})});
       Value* q = Apply(g, "MatMul", {y, Weights(g, {30, 256})});
       Value* t = Apply(g, "Transpose", {q}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
       Value* p = Apply(g, "Softmax", {Apply(g, "MatMul", {t, q})});
       Value* sum = Apply(g, "ReduceMean", {p, I64(g, {-1})}, {{"keepdims", int64_t{0}}});
       return Apply(g, "LayerNormalization", {sum, Weights(g, {256})});
     }},
    {"SizesFromTheInput", true,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       Value* rows = Apply(g, "Gather", {Apply(g, "Shape", {x}), I64(g, {0})});
       Value* shape = Apply(g, "Concat", {rows, I64(g, {-1})}, {{"axis", int64_t{0}}});
       return Apply(g, "Reshape", {y, shape});
     }},
    {"PadSliceConcatResize", true,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       y = Apply(g, "Pad", {y, I64(g, {0, 0, 1, 2, 0, 0, 0, 1})});
       Value* z = Apply(g, "Slice", {y, I64(g, {1}), I64(g, {3}), I64(g, {2})});
       z = Apply(g, "Concat", {z, z}, {{"axis", int64_t{1}}});
       Value* scales = g.AddConstant("s", Tensor::Of<float>({4}, {1, 1, 2, 2}));
       return Apply(g, "Resize", {z, nullptr, scales});
     }},
    {"MeanOfTheBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       return Apply(g, "Sub", {y, Apply(g, "ReduceMean", {y, I64(g, {0})})});
     }},
    {"SoftmaxOverTheBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       return Apply(g, "Softmax", {y}, {{"axis", int64_t{0}}});
     }},
    {"DividedByItsSize", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       Value* rows = Apply(g, "Gather", {Apply(g, "Shape", {x}), I64(g, {0})});
       return Apply(g, "Div", {y, Apply(g, "Cast", {rows}, {{"to", int64_t{1}}})});
     }},
    {"OneScaleForTheBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       Node* q =
           g.AddNode({.op = "DynamicQuantizeLinear", .inputs = {y}, .outputs = {"q", "s", "z"}});
       return Apply(g, "DequantizeLinear", {q->output(0), q->output(1), q->output(2)});
     }},
    {"TransposedBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Flat(g, Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})}));
       return Apply(g, "MatMul", {y, Apply(g, "Transpose", {y})});
     }},
    {"FoldedIntoAnotherAxis", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       y = Apply(g, "Reshape", {y, I64(g, {1, -1, 30})});
       return Apply(g, "Reshape",
                    {Apply(g, "Softmax", {y}, {{"axis", int64_t{1}}}), I64(g, {-1, 64, 6, 5})});
     }},
    {"CountsThroughTheBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       Node* pool = g.AddNode({.op = "MaxPool",
                               .inputs = {y},
                               .outputs = {"p", "indices"},
                               .attributes = {{"kernel_shape", std::vector<int64_t>{2, 2}}}});
       return pool->output(1);
     }},
    {"ReversedBatch", false,
     [](Graph& g, Value* x) {
       Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
       return Apply(g, "Slice", {y, I64(g, {-1}), I64(g, {-100}), I64(g, {0}), I64(g, {-1})});
     }},
};
INSTANTIATE_TEST_SUITE_P(All, BatchRows, testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

// 7 rows in 3 parts; the arena is that of the largest part.
TEST(BatchRows, PartsAreAsEvenAsTheyCanBeAndShareAnArena) {
  const Build build = [](Graph& g, Value* x) {
    Value* y = Apply(g, "Conv", {x, Weights(g, {64, 4, 1, 1})});
    return Flat(g, Apply(g, "GlobalMaxPool", {y}));
  };
  const auto arena = [&](int64_t limit, int64_t batch, std::string* first) {
    Graph g = Net(build);
    EXPECT_THAT(InferShapes(g), IsOk());
    auto plan = Plan::Create(std::move(g), {.max_batch_bytes = limit});
    EXPECT_THAT(plan, IsOk());
    const Shape shape = {batch, 4, 6, 5};
    auto steps = (*plan)->Describe({shape});
    EXPECT_THAT(steps, IsOk());
    if (first != nullptr) *first = (*steps)[0].implementation;
    Context context(*plan);
    EXPECT_THAT(context.Run({RandomF32(shape, 5)}), IsOk());
    return context.arena_bytes();
  };
  std::string parts;
  const int64_t three = arena(int64_t{1} << 30, 3, nullptr);
  EXPECT_EQ(arena(30000, 7, &parts), three) << "a row of results takes 7680 bytes";
  EXPECT_EQ(parts, "3 x 3 rows");
}

}  // namespace
}  // namespace halftone
