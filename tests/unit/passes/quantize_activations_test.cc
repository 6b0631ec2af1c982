#include "core/passes/quantize_activations.h"

#include <map>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"
#include "tests/unit/passes/quantize_test_util.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// The plan in names, for graphs in which every Conv, Gemm and MatMul with constant weights is int8.
struct NamedPlan {
  std::vector<std::string> quantized;  // values
  std::vector<std::string> reads;      // "node.input"
  std::map<std::string, int> group;
};

NamedPlan PlanOf(Graph& graph, LookUps look_ups = LookUps::kNone) {
  NodeSet int8;
  for (const Node* n : graph.nodes()) {
    const bool computes = n->op() == "Conv" || n->op() == "Gemm" || n->op() == "MatMul";
    if (computes && n->input(1)->is_constant()) int8.insert(n);
  }
  const ActivationPlan plan = PlanActivations(graph, int8, nullptr, look_ups);
  NamedPlan out;
  for (const auto& q : plan.values) {
    out.quantized.push_back(q.value->name());
    out.group[q.value->name()] = q.group;
  }
  for (const auto& r : plan.reads) {
    out.reads.push_back(r.node->output(0)->name() + "." + std::to_string(r.input));
  }
  return out;
}

TEST(PlanActivations, NeverSeparatesAConvFromItsActivation) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* a = m.Node("Relu", "a", {m.Conv("c1", x, 3, 8)}, {1, 8, 4, 4});
  m.Output(m.Conv("c2", a, 8, 2));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("x", "a"));
  EXPECT_THAT(plan.reads, UnorderedElementsAre("c1.0", "c2.0"));
}

TEST(PlanActivations, TakesSigmoidTimesItselfForOneActivation) {
  GraphMaker m;
  Value* c1 = m.Conv("c1", m.Input("x", {1, 3, 4, 4}), 3, 8);
  Value* s = m.Node("Sigmoid", "s", {c1}, {1, 8, 4, 4});
  Value* silu = m.Node("Mul", "silu", {c1, s}, {1, 8, 4, 4});
  m.Output(m.Conv("c2", silu, 8, 2));
  EXPECT_THAT(PlanOf(m.graph()).quantized, UnorderedElementsAre("x", "silu"));
}

// Between bytes a costly function reads bytes; a cheap one, or one whose argument or result is
// wanted as a float, stays behind the accumulator.
TEST(PlanActivations, LooksUpCostlyFunctionsBetweenIntegers) {
  const Shape shape = {1, 8, 4, 4};
  const auto plan_of = [&](const std::string& op, bool gate, bool show) {
    GraphMaker m;
    Value* c1 = m.Conv("c1", m.Input("x", {1, 3, 4, 4}), 3, 8);
    Value* y = m.Node(op, "f", {c1}, shape);
    if (gate) y = m.Node("Mul", "y", {c1, y}, shape);
    m.Output(m.Conv("c2", y, 8, 2));
    if (show) m.Output(c1);
    return PlanOf(m.graph(), LookUps::kCostlyFunctions);
  };
  const NamedPlan silu = plan_of("Sigmoid", true, false);
  EXPECT_THAT(silu.quantized, UnorderedElementsAre("x", "c1", "y"));
  EXPECT_THAT(silu.reads, UnorderedElementsAre("c1.0", "f.0", "y.0", "c2.0"));
  EXPECT_THAT(plan_of("Gelu", false, false).reads, UnorderedElementsAre("c1.0", "f.0", "c2.0"));
  EXPECT_THAT(plan_of("HardSigmoid", true, false).quantized, UnorderedElementsAre("x", "y"));
  EXPECT_THAT(plan_of("Relu", false, false).quantized, UnorderedElementsAre("x", "f"));
  EXPECT_THAT(plan_of("Gelu", false, true).quantized, UnorderedElementsAre("x", "f"));
}

// Half a step of a SiLU in [-0.278, 10] is 0.02: what it is at -5.64.
TEST(InsertStatic, CutsTheRangeOfALookUpToWhereTheFunctionChanges) {
  GraphMaker m;
  const Shape shape = {1, 8, 4, 4};
  Value* c1 = m.Conv("c1", m.Input("x", {1, 3, 4, 4}), 3, 8);
  Value* s = m.Node("Sigmoid", "s", {c1}, shape);
  Value* silu = m.Node("Mul", "silu", {c1, s}, shape);
  m.Output(m.Conv("c2", silu, 8, 2));
  const Value* last = m.graph().outputs()[0];
  const ActivationPlan plan = PlanActivations(m.graph(), {c1->producer(), last->producer()},
                                              nullptr, LookUps::kCostlyFunctions);
  HT_ASSERT_OK(InsertStatic(m.graph(), plan,
                            {{"x", {0, 1}}, {"c1", {-30, 10}}, {"silu", {-0.278f, 10}}},
                            ActivationType::kU8));
  HT_ASSERT_OK(m.graph().SortTopologically());
  HT_ASSERT_OK(m.graph().Verify());
  EXPECT_NEAR(m.graph().FindValue("c1_scale")->constant().data<float>()[0], 15.64f / 255, 1e-4);
  EXPECT_EQ(s->producer()->input(0)->name(), "c1_dequantized");
  EXPECT_EQ(silu->producer()->input(0)->name(), "c1_dequantized");
}

// x → c1 → relu → c2 ─┐
// └───────────────── Add → relu → c3
TEST(PlanActivations, AResidualReadsItsShortcutAsIntegersAndKeepsTheAccumulator) {
  GraphMaker m;
  Value* in = m.Input("in", {1, 8, 4, 4});
  Value* x = m.Node("Relu", "x", {m.Conv("c0", in, 8, 8)}, {1, 8, 4, 4});
  Value* r = m.Node("Relu", "r", {m.Conv("c1", x, 8, 8)}, {1, 8, 4, 4});
  Value* c2 = m.Conv("c2", r, 8, 8);
  Value* sum = m.Node("Add", "sum", {c2, x}, {1, 8, 4, 4});
  Value* y = m.Node("Relu", "y", {sum}, {1, 8, 4, 4});
  m.Output(m.Conv("c3", y, 8, 2));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("in", "x", "r", "y"));
  EXPECT_THAT(plan.reads, UnorderedElementsAre("c0.0", "c1.0", "c2.0", "sum.1", "c3.0"));
}

TEST(PlanActivations, OfTwoConvBranchesTheLaterStaysAnAccumulator) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 8, 4, 4});
  Value* shortcut = m.Conv("shortcut", x, 8, 8);
  Value* branch =
      m.Conv("branch", m.Node("Relu", "r", {m.Conv("c1", x, 8, 8)}, {1, 8, 4, 4}), 8, 8);
  Value* sum = m.Node("Add", "sum", {branch, shortcut}, {1, 8, 4, 4});
  m.Output(m.Conv("c3", sum, 8, 2));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("x", "r", "shortcut", "sum"));
  EXPECT_THAT(plan.reads, UnorderedElementsAre("shortcut.0", "c1.0", "branch.0", "sum.1", "c3.0"));
}

TEST(PlanActivations, OperatorsThatMoveElementsShareOneScale) {
  GraphMaker m;
  Value* a = m.Conv("a", m.Input("x", {1, 3, 4, 4}), 3, 8);
  Value* pool =
      m.Node("MaxPool", "pool", {a}, {1, 8, 4, 4}, {{"kernel_shape", std::vector<int64_t>{1, 1}}});
  m.Output(m.Conv("c2", pool, 8, 2));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("x", "a", "pool"));
  EXPECT_EQ(plan.group.at("a"), plan.group.at("pool"));
  EXPECT_NE(plan.group.at("x"), plan.group.at("a"));
}

TEST(PlanActivations, AnImageThatIsOnlyMovedIsQuantizedOnce) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 4, 4, 3});
  Value* t =
      m.Node("Transpose", "t", {x}, {1, 3, 4, 4}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
  m.Output(m.Conv("c", t, 3, 8));
  EXPECT_THAT(PlanOf(m.graph()).quantized, ElementsAre("t"));
}

TEST(PlanActivations, ASumWithAFloatSideIsNotMovedAsIntegers) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 8, 4, 4});
  Value* sum = m.Node("Add", "sum", {m.Conv("c1", x, 8, 8), x}, {1, 8, 4, 4});
  Value* pool = m.Node("MaxPool", "pool", {sum}, {1, 8, 4, 4},
                       {{"kernel_shape", std::vector<int64_t>{1, 1}}});
  m.Output(m.Conv("c2", pool, 8, 2));
  EXPECT_THAT(PlanOf(m.graph()).quantized, UnorderedElementsAre("x", "pool"));
}

TEST(PlanActivations, ConcatTiesAllItsInputs) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* a = m.Conv("a", x, 3, 4);
  Value* b = m.Node("Relu", "b", {m.Conv("cb", x, 3, 4)}, {1, 4, 4, 4});
  Value* cat = m.Node("Concat", "cat", {a, b}, {1, 8, 4, 4}, {{"axis", int64_t{1}}});
  m.Output(m.Conv("c", cat, 8, 2));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("x", "a", "b", "cat"));
  EXPECT_EQ(plan.group.at("a"), plan.group.at("cat"));
  EXPECT_EQ(plan.group.at("b"), plan.group.at("cat"));
}

TEST(PlanActivations, TransformerArithmeticBetweenMatMulsStaysFloat) {
  GraphMaker m;
  Value* x = m.Input("x", {2, 8});
  const Shape shape = {2, 8};
  const auto weights = [&](const std::string& name) {
    return m.Constant(name, RandomTensor({8, 8}, 4));
  };
  Value* scale = m.Constant("ln_scale", RandomTensor({8}, 5));
  Value* ln = m.Node("LayerNormalization", "ln", {x, scale}, shape);
  Value* up = m.Node("Gelu", "up", {m.Node("MatMul", "m1", {ln, weights("w1")}, shape)}, shape);
  Value* down = m.Node("MatMul", "m2", {up, weights("w2")}, shape);
  Value* sum = m.Node("Add", "sum", {x, down}, shape);
  Value* ln2 = m.Node("LayerNormalization", "ln2", {sum, scale}, shape);
  m.Output(m.Node("MatMul", "m3", {ln2, weights("w3")}, shape));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("ln", "up", "ln2"));
  EXPECT_THAT(plan.reads, UnorderedElementsAre("m1.0", "m2.0", "m3.0"));
}

TEST(PlanActivations, PostNormResidualsReadTheFloatStream) {
  GraphMaker m;
  const Shape shape = {2, 8};
  Value* scale = m.Constant("ln_scale", RandomTensor({8}, 5));
  Value* ln = m.Node("LayerNormalization", "ln", {m.Input("x", shape), scale}, shape);
  Value* w = m.Constant("w", RandomTensor({8, 8}, 4));
  Value* sum = m.Node("Add", "sum", {ln, m.Node("MatMul", "m1", {ln, w}, shape)}, shape);
  m.Output(m.Node("LayerNormalization", "ln2", {sum, scale}, shape));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, ElementsAre("ln"));
  EXPECT_THAT(plan.reads, ElementsAre("m1.0"));
}

TEST(PlanActivations, PoolingBetweenIntegerNodesReadsIntegers) {
  GraphMaker m;
  Value* a = m.Node("Relu", "a", {m.Conv("c1", m.Input("x", {1, 3, 4, 4}), 3, 8)}, {1, 8, 4, 4});
  Value* pool = m.Node("GlobalAveragePool", "pool", {a}, {1, 8, 1, 1});
  Value* flat = m.Node("Flatten", "flat", {pool}, {1, 8});
  Value* w = m.Constant("w", RandomTensor({8, 2}, 1));
  m.Output(m.Node("Gemm", "y", {flat, w}, {1, 2}));
  const NamedPlan plan = PlanOf(m.graph());
  EXPECT_THAT(plan.quantized, UnorderedElementsAre("x", "a", "pool", "flat"));
  EXPECT_EQ(plan.group.at("pool"), plan.group.at("flat"));
  EXPECT_NE(plan.group.at("a"), plan.group.at("pool"));
}

TEST(PlanActivations, AnElementwiseNodeBesideAnIntegerReaderDoesNotAskForFloat) {
  GraphMaker m;
  Value* a = m.Node("Relu", "a", {m.Conv("c1", m.Input("x", {1, 8, 4, 4}), 8, 8)}, {1, 8, 4, 4});
  Value* sum = m.Node("Add", "sum", {m.Conv("c2", a, 8, 8), a}, {1, 8, 4, 4});
  m.Output(sum);  // nobody wants it as integers
  EXPECT_THAT(PlanOf(m.graph()).reads, UnorderedElementsAre("c1.0", "c2.0", "sum.1"));
}

// q, k and v are products with weights; what lies in front of the output projection moves elements.
struct AttentionGraph {
  GraphMaker m;
  NodeSet int8;
  AttentionGraph() {
    const Shape flat = {1, 4, 8}, heads = {1, 2, 4, 4};
    Value* x = m.Input("x", flat);
    const auto project = [&](const std::string& name, Value* in) {
      Value* w = m.Constant(name + "_w", RandomTensor({8, 8}, 4));
      Value* y = m.Node("MatMul", name, {in, w}, flat);
      int8.insert(y->producer());
      return y;
    };
    const auto split = [&](const std::string& name, const Shape& shape) {
      return m.Node("Transpose", name + "_heads", {project(name, x)}, shape);
    };
    Value* q = split("q", heads);
    Value* k = split("k", heads);
    Value* v = split("v", heads);
    Value* scores = m.Node("MatMul", "scores", {q, k}, heads);
    Value* mask = m.Input("mask", heads);
    Value* p = m.Node("Softmax", "p", {m.Node("Add", "masked", {scores, mask}, heads)}, heads);
    Value* a = m.Node("MatMul", "a", {p, v}, heads);
    m.Output(project("out", m.Node("Transpose", "merged", {a}, flat)));
    m.Output(m.Node("MatMul", "other", {x, q}, heads));  // nothing makes x in integers
  }
  const Node* Made(const std::string& name) { return m.graph().FindValue(name)->producer(); }
};

TEST(AttentionProducts, AreThoseOfWhatIntegerNodesMake) {
  AttentionGraph g;
  EXPECT_THAT(AttentionProducts(g.m.graph(), g.int8),
              UnorderedElementsAre(g.Made("scores"), g.Made("a")));
  g.int8.erase(g.Made("v"));
  EXPECT_THAT(AttentionProducts(g.m.graph(), g.int8), ElementsAre(g.Made("scores")));
  EXPECT_THAT(AttentionProducts(g.m.graph(), {}), IsEmpty());
}

TEST(PlanActivations, ProductsOfAttentionReadBothSidesAsIntegers) {
  AttentionGraph g;
  g.int8.merge(AttentionProducts(g.m.graph(), g.int8));
  const ActivationPlan plan = PlanActivations(g.m.graph(), g.int8, nullptr);
  std::vector<std::string> symmetric, affine;
  for (const auto& q : plan.values) (q.symmetric ? symmetric : affine).push_back(q.value->name());
  EXPECT_THAT(symmetric, UnorderedElementsAre("k", "k_heads", "v", "v_heads"));
  EXPECT_THAT(affine, UnorderedElementsAre("x", "q", "q_heads", "p", "a", "merged"));
}

TEST(PlanActivations, ProductsNeedRangesOfBothSides) {
  AttentionGraph g;
  g.int8.merge(AttentionProducts(g.m.graph(), g.int8));
  const RangeMap ranges = {
      {"p", {0, 1}}, {"q_heads", {-1, 1}}, {"k_heads", {-1, 1}}, {"q", {-1, 1}}, {"k", {-1, 1}}};
  const ActivationPlan plan = PlanActivations(g.m.graph(), g.int8, &ranges);
  for (const auto& q : plan.values) EXPECT_NE(q.value->name(), "p");
  for (const auto& r : plan.reads) EXPECT_NE(r.node, g.Made("a"));
}

TEST(PlanActivations, ValuesWithoutARangeStayFloat) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* c = m.Conv("c", x, 3, 8);
  m.Output(c);
  const RangeMap none;
  const ActivationPlan plan = PlanActivations(m.graph(), {c->producer()}, &none);
  EXPECT_THAT(plan.values, IsEmpty());
  EXPECT_THAT(plan.reads, IsEmpty());
}

TEST(InsertStatic, TiedValuesGetTheUnionOfTheirRanges) {
  GraphMaker m;
  Value* a = m.Input("a", {1, 3, 4, 4});
  Value* y = m.Conv("y", a, 3, 4);
  Value* z = m.Conv("z", y, 4, 4);
  m.Output(z);
  const ActivationPlan plan = {.values = {{y, 0}, {a, 0}},
                               .reads = {{z->producer(), 0}, {y->producer(), 0}}};
  HT_ASSERT_OK(
      InsertStatic(m.graph(), plan, {{"a", {-1, 0}}, {"y", {0, 254}}}, ActivationType::kU8));
  HT_ASSERT_OK(m.graph().SortTopologically());
  HT_ASSERT_OK(m.graph().Verify());
  for (const std::string name : {"a", "y"}) {
    EXPECT_EQ(m.graph().FindValue(name + "_scale")->constant().data<float>()[0], 1.0f);
    EXPECT_EQ(m.graph().FindValue(name + "_zero_point")->constant().data<uint8_t>()[0], 1);
  }
  EXPECT_EQ(z->producer()->input(0)->name(), "y_dequantized");
  EXPECT_EQ(y->producer()->input(0)->name(), "a_dequantized");
}

struct TypeCase {
  ActivationType type;
  DataType stored;
  float scale, zero_point;  // of the range [-1, 3]
};
class InsertStaticTypes : public ::testing::TestWithParam<TypeCase> {};

TEST_P(InsertStaticTypes, UnsignedIsAffineAndSignedIsSymmetric) {
  const TypeCase& c = GetParam();
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* y = m.Conv("y", x, 3, 4);
  m.Output(y);
  const ActivationPlan plan = {.values = {{x, 0}}, .reads = {{y->producer(), 0}}};
  HT_ASSERT_OK(InsertStatic(m.graph(), plan, {{"x", {-1, 3}}}, c.type));
  HT_ASSERT_OK(m.graph().Verify());
  EXPECT_EQ(m.graph().FindValue("x_quantized")->type().type, c.stored);
  EXPECT_FLOAT_EQ(m.graph().FindValue("x_scale")->constant().data<float>()[0], c.scale);
  const Tensor& zero_point = m.graph().FindValue("x_zero_point")->constant();
  EXPECT_EQ(zero_point.type(), c.stored);
  EXPECT_EQ(Convert(zero_point, DataType::kF32)->data<float>()[0], c.zero_point);
}
INSTANTIATE_TEST_SUITE_P(
    All, InsertStaticTypes,
    ::testing::Values(TypeCase{ActivationType::kU8, DataType::kU8, 4.0f / 255, 64},
                      TypeCase{ActivationType::kI8, DataType::kI8, 3.0f / 127, 0},
                      TypeCase{ActivationType::kU16, DataType::kU16, 4.0f / 65535, 16384},
                      TypeCase{ActivationType::kI16, DataType::kI16, 3.0f / 32767, 0}),
    [](const auto& info) { return std::string(Name(info.param.type)); });

TEST(InsertStatic, RightSidesAreSymmetric) {
  GraphMaker m;
  Value* a = m.Input("a", {4, 4});
  Value* b = m.Input("b", {4, 4});
  Value* y = m.Node("MatMul", "y", {a, b}, {4, 4});
  m.Output(y);
  const ActivationPlan plan = {.values = {{b, 1, true}, {a, 0}},
                               .reads = {{y->producer(), 0}, {y->producer(), 1}}};
  HT_ASSERT_OK(
      InsertStatic(m.graph(), plan, {{"a", {-1, 0}}, {"b", {-254, 1}}}, ActivationType::kU8));
  HT_ASSERT_OK(m.graph().SortTopologically());
  HT_ASSERT_OK(m.graph().Verify());
  EXPECT_EQ(m.graph().FindValue("b_scale")->constant().data<float>()[0], 2.0f);
  EXPECT_EQ(m.graph().FindValue("b_zero_point")->constant().data<int8_t>()[0], 0);
  EXPECT_EQ(m.graph().FindValue("b_quantized")->type().type, DataType::kI8);
  EXPECT_EQ(m.graph().FindValue("a_quantized")->type().type, DataType::kU8);
}

TEST(InsertDynamic, ConsumersOfOneValueShareItsQuantization) {
  GraphMaker m;
  Value* x = m.Input("x", {1, 3, 4, 4});
  Value* a = m.Conv("a", x, 3, 4);
  Value* b = m.Conv("b", x, 3, 4);
  m.Output(a);
  m.Output(b);
  InsertDynamic(m.graph(), {a->producer(), b->producer()}, DynamicScale::kPerTensor);
  HT_ASSERT_OK(m.graph().SortTopologically());
  HT_ASSERT_OK(m.graph().Verify());
  EXPECT_EQ(a->producer()->input(0), b->producer()->input(0));
  EXPECT_EQ(m.graph().nodes().size(), 4u);
}

}  // namespace
}  // namespace halftone
