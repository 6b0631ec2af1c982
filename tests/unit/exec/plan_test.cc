#include "core/exec/plan.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/strings/str_cat.h"
#include "core/ops/evaluate.h"
#include "tests/testing/random_tensor.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::HasSubstr;

// A small network with symbolic batch and size: conv → relu → pool → flatten … → two outputs.
Graph SmallNet() {
  Graph g("net");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("batch"), 3, Dim("h"), Dim("w")}});
  Node* conv = g.AddNode({.op = "Conv",
                          .name = "conv",
                          .inputs = {x, g.AddConstant("w", RandomF32({8, 3, 3, 3}, 1))},
                          .outputs = {"c"}});
  Node* relu = g.AddNode({.op = "Relu", .inputs = {conv->output(0)}, .outputs = {"r"}});
  Node* pool =
      g.AddNode({.op = "GlobalAveragePool", .inputs = {relu->output(0)}, .outputs = {"p"}});
  Node* flat = g.AddNode({.op = "Flatten", .inputs = {pool->output(0)}, .outputs = {"f"}});
  Node* fc = g.AddNode({.op = "MatMul",
                        .inputs = {flat->output(0), g.AddConstant("m", RandomF32({8, 4}, 2))},
                        .outputs = {"y"}});
  g.AddOutput(fc->output(0));
  g.AddOutput(relu->output(0));
  EXPECT_THAT(InferShapes(g), IsOk());
  return g;
}

void ExpectAgreement(Context& context, const Graph& reference, const Tensor& x) {
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, EvaluateGraph(reference, {x}));
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, context.Run({x}));
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(Disagreement(got[i], want[i], kAccumulate), 1) << "output " << i;
  }
}

TEST(Plan, ServesChangingShapesFromOneContext) {
  const Graph g = SmallNet();
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {.max_specializations = 2}));
  Context context(plan);
  const Shape shapes[] = {{1, 3, 8, 8}, {4, 3, 8, 8}, {1, 3, 12, 7}, {1, 3, 8, 8}, {2, 3, 30, 30}};
  for (int round = 0; round < 2; ++round) {
    for (const Shape& s : shapes) ExpectAgreement(context, g, RandomF32(s, 5 + round));
  }
}

TEST(Plan, PacksWeightsOnceForAllShapes) {
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {}));
  HT_ASSERT_OK(plan->Prepare({Shape{1, 3, 8, 8}}));
  const int64_t packed = plan->memory().packed_bytes;
  EXPECT_GT(packed, 0);
  for (int64_t n = 2; n < 6; ++n) HT_ASSERT_OK(plan->Prepare({Shape{n, 3, 8, 8}}));
  EXPECT_EQ(plan->memory().packed_bytes, packed);
}

TEST(Context, GivesTheArenaOfALargeBatchBack) {
  const Graph g = SmallNet();
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {}));
  Context context(plan);
  HT_ASSERT_OK(context.Run({RandomF32({1, 3, 16, 16}, 1)}));
  const int64_t small = context.arena_bytes();
  HT_ASSERT_OK(context.Run({RandomF32({64, 3, 128, 128}, 1)}));
  EXPECT_GT(context.arena_bytes(), 10 * small);
  for (int i = 0; i < 200; ++i) HT_ASSERT_OK(context.Run({RandomF32({1, 3, 16, 16}, 1)}));
  EXPECT_EQ(context.arena_bytes(), small);
  ExpectAgreement(context, g, RandomF32({1, 3, 16, 16}, 9));
}

TEST(Plan, RunsFromManyThreads) {
  const Graph g = SmallNet();
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {}));
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      SetIntraOpThreads(1);
      Context context(plan);
      for (int64_t i = 0; i < 20; ++i) {
        ExpectAgreement(context, g, RandomF32({1 + i % 3, 3, 8, 8}, t * 100 + i));
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

// One context, first with one thread, then with a team, and back; also in parts.
TEST(Plan, NumbersDoNotDependOnTheNumberOfThreads) {
  for (const int64_t limit : {int64_t{0}, int64_t{1} << 20}) {
    HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {.max_batch_bytes = limit}));
    Context context(plan);
    for (const Shape& shape : {Shape{1, 3, 64, 64}, Shape{9, 3, 64, 64}}) {
      const Tensor x = RandomF32(shape, 5);
      context.SetThreads(0);
      HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, context.Run({x}));
      for (const int threads : {2, 3, 1, 4}) {
        context.SetThreads(threads);
        HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> got, context.Run({x}));
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_EQ(got[i].bytes(), want[i].bytes()) << "output " << i << ", threads " << threads;
        }
      }
    }
  }
}

TEST(Plan, ATeamSharesPackedWeightsWithOneThread) {
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {}));
  HT_ASSERT_OK(plan->Prepare({Shape{1, 3, 8, 8}}));
  const int64_t packed = plan->memory().packed_bytes;
  HT_ASSERT_OK(plan->Prepare({Shape{1, 3, 8, 8}}, 2));
  EXPECT_EQ(plan->memory().packed_bytes, packed);
}

TEST(Plan, ADroppedTeamTakesItsWeightsAlong) {
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {}));
  const Shape shape = {1, 3, 8, 8};
  HT_ASSERT_OK(plan->Prepare({shape}, 2));
  EXPECT_GT(plan->memory().packed_bytes, 0);
  plan->Drop({shape}, 2);
  EXPECT_EQ(plan->memory().packed_bytes, 0);
  plan->Drop({shape}, 2);  // not there: nothing happens

  Context context(plan);
  context.SetThreads(2);
  HT_ASSERT_OK(context.Run({RandomF32(shape, 5)}));
  plan->Drop({shape}, 2);
  EXPECT_GT(plan->memory().packed_bytes, 0);  // the context has them
  EXPECT_FALSE(context.Run({}).ok());         // as any run, it gives up what is gone
  EXPECT_EQ(plan->memory().packed_bytes, 0);
}

TEST(Plan, RejectsInputsThatDoNotFit) {
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {}));
  Context context(plan);
  EXPECT_THAT(context.Run({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("want 1")));
  EXPECT_THAT(context.Run({RandomF32({1, 4, 8, 8}, 1)}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("input 'x': got shape [1,4,8,8], want [batch,3,h,w]")));
  EXPECT_THAT(context.Run({RandomInts(DataType::kU8, {1, 3, 8, 8}, 1, 0, 9)}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got u8, want f32")));
  EXPECT_THAT(context.Run({RandomF32({1, 3, 8}, 1)}), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Plan, TooSmallAnImageIsAnErrorNotACrash) {
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(SmallNet(), {}));
  Context context(plan);
  EXPECT_FALSE(context.Run({RandomF32({1, 3, 1, 1}, 1)}).ok());
  HT_EXPECT_OK(context.Run({RandomF32({1, 3, 8, 8}, 1)}));
}

TEST(Plan, DataDependentShapesRun) {
  Graph g("nonzero");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{Dim("n")}});
  Node* nz = g.AddNode({.op = "NonZero", .inputs = {x}, .outputs = {"i"}});
  Node* t = g.AddNode({.op = "Transpose", .inputs = {nz->output(0)}, .outputs = {"t"}});
  g.AddOutput(t->output(0));
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  HT_ASSERT_OK_AND_ASSIGN(auto a, context.Run({Tensor::Of<float>({4}, {0, 3, 0, 1})}));
  EXPECT_EQ(a[0].ToString(), "i64[2,1] {1, 3}");
  HT_ASSERT_OK_AND_ASSIGN(auto b, context.Run({Tensor::Of<float>({4}, {0, 0, 0, 7})}));
  EXPECT_EQ(b[0].ToString(), "i64[1,1] {3}");
}

TEST(Plan, StepsSayHowManyBytesTheyMove) {
  Graph g("net");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{32, 64}});
  Value* w = g.AddConstant("w", RandomF32({64, 64}, 2));
  Node* product = g.AddNode({.op = "MatMul", .inputs = {x, w}, .outputs = {"y"}});
  g.AddOutput(product->output(0));
  ASSERT_THAT(InferShapes(g), IsOk());
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
  HT_ASSERT_OK_AND_ASSIGN(const auto steps, plan->Describe({Shape{32, 64}}));
  ASSERT_EQ(steps.size(), 1);
  EXPECT_EQ(steps[0].bytes, 4 * (32 * 64 + 64 * 64 + 32 * 64));
}

// Bytes with a zero point that is none of i8.
TEST(Plan, ConvolutionsHaveAKernelForAnyConstantWeights) {
  Graph g("net");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{1, 1, 5, 5}});
  Value* w = g.AddConstant("w", Tensor::Of<uint8_t>({1, 1, 2, 2}, {0, 255, 7, 90}));
  Value* scale = g.AddConstant("s", Tensor::Scalar<float>(0.5f));
  Value* zero = g.AddConstant("z", Tensor::Scalar<uint8_t>(100));
  Node* widen = g.AddNode({.op = "DequantizeLinear", .inputs = {w, scale, zero}, .outputs = {"f"}});
  Node* conv = g.AddNode({.op = "Conv", .inputs = {x, widen->output(0)}, .outputs = {"y"}});
  g.AddOutput(conv->output(0));
  ASSERT_THAT(InferShapes(g), IsOk());
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(g.Clone(), {}));
  Context context(plan);
  ExpectAgreement(context, g, RandomF32({1, 1, 5, 5}, 1));
  HT_ASSERT_OK_AND_ASSIGN(const auto steps, plan->Describe({Shape{1, 1, 5, 5}}));
  for (const StepInfo& step : steps) EXPECT_NE(step.rule, "reference") << step.op;
}

TEST(Plan, ProductsOfOtherTypesThanF32Run) {
  for (const DataType type : {DataType::kI32, DataType::kF64}) {
    Graph g("net");
    g.opsets()[""] = 17;
    Value* a = g.AddInput("a", {type, Dims{2, 3}});
    Value* b = g.AddInput("b", {type, Dims{3, 2}});
    g.AddOutput(g.AddNode({.op = "MatMul", .inputs = {a, b}, .outputs = {"y"}})->output(0));
    ASSERT_THAT(InferShapes(g), IsOk());
    HT_ASSERT_OK_AND_ASSIGN(const Tensor x, Convert(RandomF32({2, 3}, 1, -9, 9), type));
    HT_ASSERT_OK_AND_ASSIGN(const Tensor y, Convert(RandomF32({3, 2}, 2, -9, 9), type));
    HT_ASSERT_OK_AND_ASSIGN(const auto want, EvaluateGraph(g, {x, y}));
    HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
    Context context(std::move(plan));
    HT_ASSERT_OK_AND_ASSIGN(const auto got, context.Run({x, y}));
    EXPECT_EQ(got[0].bytes(), want[0].bytes());
  }
}

TEST(Plan, OutputsThatAreInputsOrConstants) {
  Graph g("pass");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{2}});
  g.AddOutput(x);
  g.AddOutput(g.AddConstant("c", Tensor::Of<float>({1}, {5})));
  g.AddOutput(x);
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {}));
  Context context(plan);
  HT_ASSERT_OK_AND_ASSIGN(auto out, context.Run({Tensor::Of<float>({2}, {1, 2})}));
  EXPECT_EQ(out[0].ToString(), "f32[2] {1, 2}");
  EXPECT_EQ(out[1].ToString(), "f32[1] {5}");
  EXPECT_EQ(out[2].ToString(), "f32[2] {1, 2}");
}

TEST(Plan, ShowsEachOutputOnceAndAsRunReturnsIt) {
  Graph g = SmallNet();
  g.AddOutput(g.FindValue("c"));  // inside of what would be fused
  g.AddOutput(g.FindValue("p"));
  g.AddOutput(g.inputs()[0]);
  HT_ASSERT_OK_AND_ASSIGN(auto returned, Plan::Create(g.Clone(), {}));
  HT_ASSERT_OK_AND_ASSIGN(auto shown, Plan::Create(std::move(g), {.show_outputs = true}));
  Context run(returned), watch(shown);
  for (const Shape& shape : {Shape{1, 3, 8, 8}, Shape{4, 3, 9, 7}, Shape{1, 3, 8, 8}}) {
    const Tensor x = RandomF32(shape, 5);
    HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, run.Run({x}));
    std::vector<int> times(want.size());
    HT_ASSERT_OK(watch.Watch({x}, [&](int i, const Tensor& value) {
      ++times[i];
      EXPECT_EQ(value.shape(), want[i].shape()) << "output " << i;
      EXPECT_EQ(value.bytes(), want[i].bytes()) << "output " << i;
    }));
    EXPECT_EQ(times, std::vector<int>(want.size(), 1));
  }
}

// A chain of activations of 1 MB each, all of them outputs.
TEST(Plan, ShownOutputsShareTheirMemory) {
  Graph g("chain");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{1, 16, 128, 128}});
  for (int i = 0; i < 12; ++i) {
    const char* op = i % 2 == 0 ? "Relu" : "Sigmoid";
    x = g.AddNode({.op = op, .inputs = {x}, .outputs = {absl::StrCat("v", i)}})->output(0);
    g.AddOutput(x);
  }
  HT_ASSERT_OK(InferShapes(g));
  const Tensor in = RandomF32({1, 16, 128, 128}, 3);
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<Tensor> want, EvaluateGraph(g, {in}));
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {.show_outputs = true}));
  Context context(plan);
  int seen = 0;
  HT_ASSERT_OK(context.Watch({in}, [&](int i, const Tensor& value) {
    ++seen;
    EXPECT_LE(Disagreement(value, want[i], kAccumulate), 1) << "output " << i;
  }));
  EXPECT_EQ(seen, 12);
  EXPECT_LT(context.arena_bytes(), 3 << 19);
}

TEST(Plan, ShowsOutputsWhoseShapeOnlyTheRunKnows) {
  Graph g("data dependent");
  g.opsets()[""] = 17;
  Value* x = g.AddInput("x", {DataType::kF32, Dims{4}});
  g.AddOutput(g.AddNode({.op = "NonZero", .inputs = {x}, .outputs = {"where"}})->output(0));
  HT_ASSERT_OK(InferShapes(g));
  HT_ASSERT_OK_AND_ASSIGN(auto plan, Plan::Create(std::move(g), {.show_outputs = true}));
  Context context(plan);
  Shape where;
  HT_ASSERT_OK(context.Watch({Tensor::Of<float>({4}, {0, 5, 0, 7})},
                             [&](int, const Tensor& t) { where = ToInt64s(t).value(); }));
  EXPECT_EQ(where, (Shape{1, 3}));
}

}  // namespace
}  // namespace halftone
