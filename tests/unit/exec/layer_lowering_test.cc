// Recurrent layers and branches against the reference evaluation.
#include <gtest/gtest.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

struct RecurrentCase {
  std::string name, op;
  int gates;
  Attributes attributes = {};
  int64_t directions = 1;
};
class RecurrentLowering : public testing::TestWithParam<RecurrentCase> {};

TEST_P(RecurrentLowering, AgreesWithTheReference) {
  const RecurrentCase& c = GetParam();
  const bool lstm = c.op == "LSTM", batch_first = c.attributes.Int("layout", 0) != 0;
  for (const int64_t batch : {1, 6}) {
    for (const bool with_state : {false, true}) {
      const int64_t steps = 5, in = 11, hidden = 17, rows = c.gates * hidden, d = c.directions;
      const Shape x_shape = batch_first ? Shape{batch, steps, in} : Shape{steps, batch, in};
      const Shape state = batch_first ? Shape{batch, d, hidden} : Shape{d, batch, hidden};
      Graph g = NewGraph();
      std::vector<Tensor> inputs = {RandomF32(x_shape, 1)};
      std::vector<Value*> in_values = {g.AddInput("x", F32(StaticDims(x_shape))),
                                       g.AddConstant("w", RandomF32({d, rows, in}, 2)),
                                       g.AddConstant("r", RandomF32({d, rows, hidden}, 3))};
      if (with_state) {
        in_values.push_back(g.AddConstant("b", RandomF32({d, 2 * rows}, 4)));
        in_values.push_back(nullptr);
        for (int i = 0; i < (lstm ? 2 : 1); ++i) {
          in_values.push_back(g.AddInput("s", F32(StaticDims(state))));
          inputs.push_back(RandomF32(state, 5 + i));
        }
      }
      Attributes attributes = c.attributes;
      attributes.Set("hidden_size", hidden);
      std::vector<std::string> outputs = {"y", "yh"};
      if (lstm) outputs.push_back("yc");
      Node* n = g.AddNode(
          {.op = c.op, .inputs = in_values, .outputs = outputs, .attributes = attributes});
      for (Value* v : n->outputs()) g.AddOutput(v);
      const Outcome o = Compare(std::move(g), inputs, kAccumulate);
      EXPECT_LE(o.disagreement, 1) << "batch " << batch << "\n" << Steps(o);
      EXPECT_TRUE(Uses(o, "recurrent")) << Steps(o);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layers, RecurrentLowering,
    testing::Values(
        RecurrentCase{"Lstm", "LSTM", 4},
        RecurrentCase{"LstmReverse", "LSTM", 4, {{"direction", std::string("reverse")}}},
        RecurrentCase{"LstmBoth", "LSTM", 4, {{"direction", std::string("bidirectional")}}, 2},
        RecurrentCase{"LstmBatchFirst",
                      "LSTM",
                      4,
                      {{"direction", std::string("bidirectional")}, {"layout", int64_t{1}}},
                      2},
        RecurrentCase{"Gru", "GRU", 3},
        RecurrentCase{"GruLinear", "GRU", 3, {{"linear_before_reset", int64_t{1}}}},
        RecurrentCase{"GruBoth", "GRU", 3, {{"direction", std::string("bidirectional")}}, 2},
        RecurrentCase{"Rnn", "RNN", 1},
        RecurrentCase{"RnnRelu", "RNN", 1, {{"activations", std::vector<std::string>{"Relu"}}}}),
    [](const auto& info) { return info.param.name; });

// A constant of a layer's weights, stored as `type`.
Value* StoredWeights(Graph& g, const Shape& shape, uint32_t seed, DataType type) {
  const Tensor floats = RandomF32(shape, seed);
  if (type == DataType::kF32) return g.AddConstant("w", floats);
  return Apply(g, "Cast", {g.AddConstant("w", *Convert(floats, type))}, {{"to", int64_t{1}}});
}

// Narrow weights are read as they are stored: nothing widens them in a run, or keeps them twice.
TEST_P(RecurrentLowering, HalfWeightsStayNarrow) {
  const RecurrentCase& c = GetParam();
  const bool batch_first = c.attributes.Int("layout", 0) != 0;
  const int64_t steps = 3, in = 70, hidden = 64, rows = c.gates * hidden, d = c.directions;
  const int64_t weights = d * rows * (in + hidden);  // whole panels
  for (const int64_t batch : {1, 5}) {
    for (const DataType type : {DataType::kF32, DataType::kF16, DataType::kBF16}) {
      for (const int64_t max_widened : {int64_t{0}, 2 * weights}) {
        const Shape x_shape = batch_first ? Shape{batch, steps, in} : Shape{steps, batch, in};
        Graph g = NewGraph();
        Value* x = g.AddInput("x", F32(StaticDims(x_shape)));
        Attributes attributes = c.attributes;
        attributes.Set("hidden_size", hidden);
        Node* n = g.AddNode({.op = c.op,
                             .inputs = {x, StoredWeights(g, {d, rows, in}, 2, type),
                                        StoredWeights(g, {d, rows, hidden}, 3, type)},
                             .outputs = {"y"},
                             .attributes = attributes});
        g.AddOutput(n->output(0));
        const Outcome o = Compare(std::move(g), {RandomF32(x_shape, 1)}, kAccumulate,
                                  {.max_widened_bytes = max_widened});
        EXPECT_LE(o.disagreement, 1) << Steps(o);
        ASSERT_EQ(o.steps.size(), 1u) << Steps(o);
        EXPECT_EQ(o.steps[0].rule, "recurrent");
        const bool half = type != DataType::kF32, narrow = half && max_widened == 0;
        EXPECT_EQ(o.packed_bytes, weights * (narrow ? 2 : 4)) << Steps(o);
        EXPECT_EQ(o.steps[0].precision,
                  half ? absl::StrCat(Name(type), " weights, f32 compute") : "f32");
        EXPECT_EQ(o.steps[0].detail, half && !narrow ? "weights widened once" : "");
      }
    }
  }
}

// ---------------------------------------------------------------------------------------------
// Branches.

TEST(IfLowering, RunsOneBranchWithTheStepsOfARule) {
  for (const bool condition : {true, false}) {
    const auto branch = [](const std::string& op) {
      Graph b("branch");
      b.opsets()[""] = 20;
      Value* x = b.AddInput("x", F32({4, 8}));
      Value* w = b.AddConstant("w", RandomF32({8, 8}, op == "Relu" ? 2 : 3));
      b.AddOutput(Apply(b, op, {Apply(b, "MatMul", {x, w})}));
      return std::make_shared<const Graph>(std::move(b));
    };
    Graph g = NewGraph();
    Value* c = g.AddInput("c", {DataType::kBool, Dims{}});
    Value* x = g.AddInput("x", F32({4, 8}));
    Node* n = g.AddNode({.op = "If",
                         .inputs = {c, x},
                         .outputs = {"y"},
                         .attributes = {{"then_branch", SubgraphPtr(branch("Relu"))},
                                        {"else_branch", SubgraphPtr(branch("Tanh"))}},
                         .num_captures = 1});
    g.AddOutput(Apply(g, "Add", {n->output(0), x}));
    const Outcome o =
        Compare(std::move(g), {Tensor::Scalar(condition), RandomF32({4, 8}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << condition << "\n" << Steps(o);
    EXPECT_TRUE(Uses(o, "matmul")) << Steps(o);
    EXPECT_FALSE(Uses(o, "reference")) << Steps(o);
  }
}

}  // namespace
}  // namespace halftone
