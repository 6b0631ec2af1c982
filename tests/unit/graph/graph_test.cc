#include "core/graph/graph.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const ValueType kVector = {DataType::kF32, Dims{Dim("n"), Dim(4)}};

// x → MatMul(w) → Relu → y
struct Mlp {
  Graph graph{"mlp"};
  Value* x = graph.AddInput("x", kVector);
  Value* w = graph.AddConstant("w", Tensor::Of<float>({4, 4}, std::vector<float>(16, 0.5f)));
  Node* fc = graph.AddNode({.op = "MatMul", .name = "fc", .inputs = {x, w}, .outputs = {"h"}});
  Node* relu =
      graph.AddNode({.op = "Relu", .name = "act", .inputs = {fc->output(0)}, .outputs = {"y"}});
  Mlp() {
    for (Node* n : graph.nodes()) n->output(0)->set_type(kVector);
    graph.AddOutput(relu->output(0));
  }
};

std::vector<std::string> Names(const std::vector<Node*>& nodes) {
  std::vector<std::string> out;
  for (const Node* n : nodes) out.push_back(n->name());
  return out;
}

TEST(Graph, LinksProducersAndUses) {
  Mlp m;
  EXPECT_EQ(m.graph.FindValue("h")->producer(), m.fc);
  EXPECT_THAT(m.graph.FindValue("h")->uses(), ElementsAre(m.relu));
  EXPECT_TRUE(m.x->is_input());
  EXPECT_TRUE(m.w->is_constant());
  EXPECT_TRUE(m.graph.FindValue("y")->is_output());
  EXPECT_EQ(m.fc->input(2), nullptr);
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, MakesNamesUnique) {
  Mlp m;
  Value* x1 = m.graph.AddInput("x", kVector);
  EXPECT_EQ(x1->name(), "x_1");
  Node* again = m.graph.AddNode({.op = "Relu", .name = "act", .inputs = {x1}, .outputs = {"y"}});
  EXPECT_EQ(again->name(), "act_1");
  EXPECT_EQ(again->output(0)->name(), "y_1");
  EXPECT_FALSE(m.graph.AddNode({.op = "Relu", .inputs = {x1}, .outputs = {"z"}})->name().empty());
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, CountsAValueThatIsReadTwiceTwice) {
  Mlp m;
  Node* add = m.graph.AddNode({.op = "Add", .inputs = {m.x, m.x}, .outputs = {"s"}});
  EXPECT_THAT(m.x->uses(), ElementsAre(m.fc, add, add));
  m.graph.SetInput(add, 1, m.w);
  EXPECT_THAT(m.x->uses(), ElementsAre(m.fc, add));
  m.graph.SetInput(add, 3, m.w);
  EXPECT_EQ(add->inputs().size(), 4u);
  EXPECT_EQ(add->input(2), nullptr);
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, ReplacesUsesIncludingOutputs) {
  Mlp m;
  Value* y = m.graph.FindValue("y");
  m.graph.ReplaceUses(y, m.graph.FindValue("h"));
  EXPECT_THAT(m.graph.outputs(), ElementsAre(m.graph.FindValue("h")));
  EXPECT_FALSE(y->is_output());
  m.graph.ReplaceUses(m.x, m.x);
  HT_ASSERT_OK(m.graph.Verify());
  m.graph.RemoveNode(m.relu);
  EXPECT_EQ(m.graph.FindValue("y"), nullptr);
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, KeepsTheNamesOfOutputsWhenAsked) {
  Mlp m;
  m.graph.ReplaceUsesKeepingName(m.graph.FindValue("y"), m.graph.FindValue("h"));
  EXPECT_EQ(m.graph.outputs()[0]->name(), "y");
  EXPECT_EQ(m.graph.outputs()[0]->producer(), m.fc);
  m.graph.RemoveUnused();
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, AnInputKeepsItsNameEvenAsAnOutput) {
  Mlp m;
  m.graph.ReplaceUsesKeepingName(m.graph.FindValue("y"), m.x);
  EXPECT_EQ(m.graph.outputs()[0]->name(), "x");
}

TEST(Graph, TurnsAProducedValueIntoAConstant) {
  Mlp m;
  Value* h = m.graph.FindValue("h");
  m.graph.MakeConstant(h, Tensor::Of<float>({1, 4}, {1, 2, 3, 4}));
  EXPECT_EQ(m.fc->output(0), nullptr);
  EXPECT_EQ(ToString(h->type()), "f32[1,4]");
  HT_ASSERT_OK(m.graph.Verify());
  m.graph.RemoveUnused();
  EXPECT_THAT(Names(m.graph.nodes()), ElementsAre("act"));
  EXPECT_EQ(m.graph.FindValue("w"), nullptr);
  EXPECT_EQ(m.graph.FindValue("x"), m.x) << "inputs stay";
}

TEST(Graph, RemovesWhatNoOutputNeeds) {
  Mlp m;
  Node* dead =
      m.graph.AddNode({.op = "Exp", .name = "dead", .inputs = {m.fc->output(0)}, .outputs = {"d"}});
  m.graph.AddNode({.op = "Log", .name = "deader", .inputs = {dead->output(0)}, .outputs = {"e"}});
  m.graph.AddConstant("unused", Tensor::Scalar(1.0f));
  m.graph.RemoveUnused();
  EXPECT_THAT(Names(m.graph.nodes()), ElementsAre("fc", "act"));
  EXPECT_THAT(m.graph.FindValue("h")->uses(), ElementsAre(m.relu));
  EXPECT_EQ(m.graph.FindValue("unused"), nullptr);
  EXPECT_EQ(m.graph.FindValue("d"), nullptr);
  HT_EXPECT_OK(m.graph.Verify());
  // Names are free again.
  EXPECT_EQ(
      m.graph.AddNode({.op = "Exp", .name = "dead", .inputs = {m.x}, .outputs = {"d"}})->name(),
      "dead");
}

TEST(Graph, KeepsASecondOutputOfALiveNode) {
  Graph g;
  Value* x = g.AddInput("x", kVector);
  Node* split = g.AddNode({.op = "Split", .inputs = {x}, .outputs = {"a", "", "b"}});
  g.AddOutput(split->output(2));
  g.RemoveUnused();
  EXPECT_NE(g.FindValue("a"), nullptr);
  EXPECT_EQ(split->output(1), nullptr);
  HT_EXPECT_OK(g.Verify());
}

TEST(Graph, SortsTopologicallyAndStably) {
  Graph g;
  Value* x = g.AddInput("x", kVector);
  const auto relu = [&](const std::string& name, Value* in) {
    return g.AddNode({.op = "Relu", .name = name, .inputs = {in}, .outputs = {name + "_out"}});
  };
  Node* c = relu("c", x);
  Node* b = relu("b", x);
  Node* a = relu("a", b->output(0));
  relu("free", x);
  g.SetInput(c, 0, a->output(0));
  HT_ASSERT_OK(g.SortTopologically());
  EXPECT_THAT(Names(g.nodes()), ElementsAre("b", "a", "c", "free"));
  HT_ASSERT_OK(g.SortTopologically());
  EXPECT_THAT(Names(g.nodes()), ElementsAre("b", "a", "c", "free"));
}

TEST(Graph, NamesANodeOfACycle) {
  Mlp m;
  m.graph.SetInput(m.fc, 0, m.graph.FindValue("y"));
  EXPECT_THAT(m.graph.SortTopologically(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("MatMul 'fc'")));
  EXPECT_THAT(Names(m.graph.nodes()), ElementsAre("fc", "act")) << "unchanged";
  EXPECT_THAT(m.graph.Verify(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cycle")));
}

TEST(Graph, SortsADeepChainWithoutRecursion) {
  Graph g;
  Value* v = g.AddInput("x", kVector);
  for (int i = 0; i < 50'000; ++i) {
    v = g.AddNode({.op = "Relu", .inputs = {v}, .outputs = {"v"}})->output(0);
  }
  g.AddOutput(v);
  HT_EXPECT_OK(g.SortTopologically());
  g.RemoveUnused();
  EXPECT_EQ(g.nodes().size(), 50'000u);
}

TEST(Graph, CloneIsIndependentAndSharesConstants) {
  Mlp m;
  m.graph.opsets()[""] = 17;
  absl::flat_hash_map<const Value*, Value*> map;
  Graph copy = m.graph.Clone(&map);
  EXPECT_EQ(copy.Dump(), m.graph.Dump());
  EXPECT_EQ(copy.opset(), 17);
  EXPECT_EQ(map.at(m.w)->constant().raw(), m.w->constant().raw());
  HT_ASSERT_OK(copy.Verify());
  const std::string before = m.graph.Dump();
  copy.SetOp(copy.nodes()[1], "Sigmoid");
  copy.SetInput(copy.nodes()[0], 0, map.at(m.w));
  EXPECT_EQ(m.graph.Dump(), before);
  HT_EXPECT_OK(m.graph.Verify());
  HT_EXPECT_OK(copy.Verify());
}

TEST(Graph, VerifyNoticesAValueThatNothingMakes) {
  Mlp m;
  Graph other;
  Value* stranger = other.AddInput("s", kVector);
  m.graph.SetInput(m.relu, 0, stranger);
  EXPECT_THAT(m.graph.Verify(), StatusIs(absl::StatusCode::kInternal, HasSubstr("stranger")));
  m.graph.SetInput(m.relu, 0, m.fc->output(0));
  HT_EXPECT_OK(m.graph.Verify());
}

TEST(Graph, DumpsOneLinePerNode) {
  Mlp m;
  m.relu->attributes().Set("alpha", 0.5f);
  m.relu->attributes().Set("axes", std::vector<int64_t>{1, 2});
  m.relu->attributes().Set("mode", std::string("fast"));
  m.graph.AddNode({.op = "QAdd",
                   .domain = "com.microsoft",
                   .name = "q",
                   .inputs = {m.x, nullptr},
                   .outputs = {"", "z"}});
  EXPECT_EQ(m.graph.Dump(),
            "graph mlp(x:f32[n,4]) -> (y:f32[n,4])\n"
            "  h:f32[n,4] = MatMul(x, w:f32[4,4] {…})  # fc\n"
            "  y:f32[n,4] = Relu(h) {alpha=0.5, axes=[1,2], mode=\"fast\"}  # act\n"
            "  -, z:?[*] = com.microsoft.QAdd(x, -)  # q\n");
}

TEST(SignatureOf, NamesWhatHasNoType) {
  Mlp m;
  HT_ASSERT_OK_AND_ASSIGN(const Signature signature, SignatureOf(m.graph));
  ASSERT_EQ(signature.inputs.size(), 1u);
  EXPECT_EQ(signature.inputs[0].name, "x");
  EXPECT_EQ(signature.outputs[0].type, DataType::kF32);
  m.graph.outputs()[0]->set_type({});
  EXPECT_THAT(SignatureOf(m.graph),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("output 'y'")));
}

TEST(Attributes, GivesAValueOnlyWithItsType) {
  Attributes a = {{"axis", int64_t{1}}};
  EXPECT_EQ(a.Int("axis", 7), 1);
  EXPECT_EQ(a.Float("axis", 7), 7);
  EXPECT_EQ(a.Find<std::string>("axis"), nullptr);
  EXPECT_FALSE(a.Has("keepdims"));
  a.Erase("axis");
  a.Erase("axis");
  EXPECT_THAT(a.items(), IsEmpty());
}

}  // namespace
}  // namespace halftone
