// Concat without copies: who writes where its result is collected, and what must not go wrong when
// buffers share bytes. Every graph against the reference evaluation.
#include <gtest/gtest.h>

#include <functional>

#include "absl/strings/match.h"
#include "core/exec/concat_slices.h"
#include "core/exec/cpu_features.h"
#include "tests/unit/exec/lowering_util.h"

namespace halftone {
namespace {

Value* I64(Graph& g, std::vector<int64_t> v) {
  return g.AddConstant("i", Tensor::Of<int64_t>({static_cast<int64_t>(v.size())}, v));
}

// A convolution with bias. Requires: an input of `channels` channels.
Value* Conv(Graph& g, Value* x, int64_t channels, int64_t outputs, int64_t kernel = 1) {
  const Tensor w = RandomF32({outputs, channels, kernel, kernel}, outputs + kernel, -0.4f, 0.4f);
  const int64_t pad = kernel / 2;
  return Apply(g, "Conv",
               {x, g.AddConstant("w", w), g.AddConstant("b", RandomF32({outputs}, outputs))},
               {{"pads", std::vector<int64_t>{pad, pad, pad, pad}}});
}

Value* Relu(Graph& g, Value* x) { return Apply(g, "Relu", {x}); }

Value* Concat(Graph& g, std::vector<Value*> in, int64_t axis = 1) {
  return Apply(g, "Concat", std::move(in), {{"axis", axis}});
}

std::pair<Value*, Value*> Halves(Graph& g, Value* x, std::vector<int64_t> sizes) {
  Node* n = g.AddNode({.op = "Split",
                       .inputs = {x, I64(g, std::move(sizes))},
                       .outputs = {"a", "b"},
                       .attributes = {{"axis", int64_t{1}}}});
  return {n->output(0), n->output(1)};
}

// Quantized to u8 and back: scales that are powers of two keep the reference exact.
Value* Quantized(Graph& g, Value* v, float scale = 0.0625f) {
  Value* s = g.AddConstant("s", Tensor::Scalar<float>(scale));
  Value* z = g.AddConstant("z", Tensor::Scalar<uint8_t>(uint8_t{100}));
  return Apply(g, "DequantizeLinear", {Apply(g, "QuantizeLinear", {v, s, z}), s, z});
}

Value* QuantizedConv(Graph& g, Value* x, int64_t channels, int64_t outputs) {
  Value* q = g.AddConstant("q", RandomInts(DataType::kI8, {outputs, channels, 1, 1}, 3, -63, 63));
  Value* w =
      Apply(g, "DequantizeLinear", {q, g.AddConstant("ws", Tensor::Scalar<float>(0.0078125f))}, {});
  return Apply(g, "Conv", {x, w});
}

Value* NarrowConv(Graph& g, Value* x, int64_t channels, int64_t outputs, bool integers) {
  const Shape shape = {outputs, channels, 1, 1};
  if (!integers) {
    const Tensor half = *Convert(RandomF32(shape, 2, -0.3f, 0.3f), DataType::kF16);
    Value* w = Apply(g, "Cast", {g.AddConstant("h", half)}, {{"to", int64_t{1}}});
    return Relu(g, Apply(g, "Conv", {x, w, g.AddConstant("b", RandomF32({outputs}, 3))}));
  }
  Value* q = g.AddConstant("q", RandomInts(DataType::kI8, shape, 4, -127, 127));
  Value* s = g.AddConstant("s", RandomF32({outputs}, 5, 0.001f, 0.003f));
  Value* w = Apply(g, "DequantizeLinear", {q, s}, {{"axis", int64_t{0}}});
  return Relu(g, Apply(g, "Conv", {x, w, g.AddConstant("b", RandomF32({outputs}, 3))}));
}

int Count(const Outcome& o, absl::string_view op) {
  return static_cast<int>(
      std::count_if(o.steps.begin(), o.steps.end(), [&](const StepInfo& s) { return s.op == op; }));
}

int Parts(const Outcome& o) {
  return static_cast<int>(std::count_if(o.steps.begin(), o.steps.end(), [](const StepInfo& s) {
    return absl::StrContains(s.detail, "part of a Concat");
  }));
}

// --- products that write, and read, by strides ---------------------------------------------------

struct ProductCase {
  std::string name;
  std::function<Value*(Graph&, Value*)> build;  // from an f32 [n, 6, 5, 7], channels last
  int parts = 0;                                // products that write a part
  int concats = 0;                              // Concats that still copy something
  int gathers = 0;                              // copies of views
};

const ProductCase kProductCases[] = {
    {"TwoPointwise",
     [](Graph& g, Value* x) {
       return Conv(g, Concat(g, {Relu(g, Conv(g, x, 6, 8)), Conv(g, x, 6, 5)}), 13, 4, 3);
     },
     2},
    {"NegativeAxis",
     [](Graph& g, Value* x) {
       return Relu(g, Concat(g, {Conv(g, x, 6, 2), Conv(g, x, 6, 17)}, -3));
     },
     2},
    {"OneImage",
     [](Graph& g, Value* x) {
       return Relu(g, Concat(g, {Conv(g, x, 6, 4, 3), Relu(g, Conv(g, x, 6, 6))}));
     },
     1, 1},
    {"OneChannelIsCopied",
     [](Graph& g, Value* x) { return Relu(g, Concat(g, {Conv(g, x, 6, 1), Conv(g, x, 6, 6)})); }, 1,
     1},
    {"ConcatOfConcat",
     [](Graph& g, Value* x) {
       Value* inner = Concat(g, {Conv(g, x, 6, 3), Conv(g, x, 6, 4)});
       return Conv(g, Concat(g, {Conv(g, x, 6, 5), inner, Conv(g, x, 6, 2)}), 14, 3, 3);
     },
     4},
    {"InnerConcatCopiesOne",
     [](Graph& g, Value* x) {
       Value* inner = Concat(g, {x, Conv(g, x, 6, 4)});
       return Conv(g, Concat(g, {inner, Conv(g, x, 6, 5)}), 15, 3, 3);
     },
     2, 1},
    {"PointwiseReadsThePartOfAnother",
     [](Graph& g, Value* x) {
       Value* a = Relu(g, Conv(g, x, 6, 4));
       return Conv(g, Concat(g, {a, Conv(g, a, 4, 8)}), 12, 3, 3);
     },
     2},
    {"SplitInFront",  // the shuffle of ShuffleNet: half goes by, half is computed
     [](Graph& g, Value* x) {
       const auto [a, b] = Halves(g, x, {2, 4});
       return Conv(g, Concat(g, {a, Relu(g, Conv(g, b, 4, 4))}), 6, 3, 3);
     },
     1, 1},
    {"TwoConcatsOfOneValue",
     [](Graph& g, Value* x) {
       Value* a = Conv(g, x, 6, 4);
       Value* first = Concat(g, {a, Conv(g, x, 6, 3)});
       Value* second = Concat(g, {Conv(g, x, 6, 5), a});
       return Concat(g, {Relu(g, first), Relu(g, second)});
     },
     3, 2},
    {"AnImageReaderKeepsTheCopy",
     [](Graph& g, Value* x) {
       Value* a = Conv(g, x, 6, 4);
       return Concat(g, {Relu(g, Concat(g, {a, Conv(g, x, 6, 3)})), Conv(g, a, 4, 2, 3)});
     },
     1, 2},
    {"ValueTwice",
     [](Graph& g, Value* x) {
       Value* a = Conv(g, x, 6, 4);
       return Relu(g, Concat(g, {a, Conv(g, x, 6, 3), a}));
     },
     1, 1},
    {"OutputKeepsTheCopy",
     [](Graph& g, Value* x) {
       Value* a = Conv(g, x, 6, 4);
       g.AddOutput(a);
       return Relu(g, Concat(g, {a, Conv(g, x, 6, 3)}));
     },
     1, 1},
    {"HalfWeights",
     [](Graph& g, Value* x) {
       return Relu(g, Concat(g, {NarrowConv(g, x, 6, 4, false), NarrowConv(g, x, 6, 9, false)}));
     },
     2},
    {"IntegerWeights",
     [](Graph& g, Value* x) {
       return Relu(g, Concat(g, {NarrowConv(g, x, 6, 4, true), NarrowConv(g, x, 6, 9, true)}));
     },
     2},
    {"ResidualKeepsTheCopy",
     [](Graph& g, Value* x) {
       Value* a = Apply(g, "Add", {Conv(g, x, 6, 6), x});
       return Relu(g, Concat(g, {a, Conv(g, x, 6, 3)}));
     },
     1, 1},
    {"Quantized",
     [](Graph& g, Value* x) {
       x = Quantized(g, x);
       Value* a = Quantized(g, Relu(g, QuantizedConv(g, x, 6, 8)));
       Value* b = Quantized(g, QuantizedConv(g, x, 6, 5));
       return QuantizedConv(g, Quantized(g, Concat(g, {a, b})), 13, 3);
     },
     2},
    {"QuantizedResidualKeepsTheCopy",
     [](Graph& g, Value* x) {
       x = Quantized(g, x);
       Value* a = Quantized(g, Apply(g, "Add", {QuantizedConv(g, x, 6, 6), x}));
       Value* b = Quantized(g, QuantizedConv(g, x, 6, 5));
       return QuantizedConv(g, Quantized(g, Concat(g, {a, b})), 11, 3);
     },
     1, 1},
    {"QuantizedByTwoScales",
     [](Graph& g, Value* x) {
       x = Quantized(g, x);
       Value* a = Quantized(g, QuantizedConv(g, x, 6, 8));
       Value* b = Quantized(g, QuantizedConv(g, x, 6, 5), 0.125f);
       return QuantizedConv(g, Quantized(g, Concat(g, {a, b})), 13, 3);
     },
     0, 1},
};

class ConcatOfProducts : public testing::TestWithParam<ProductCase> {};

TEST_P(ConcatOfProducts, AgreesAndDoesNotCopy) {
  const ProductCase& c = GetParam();
  for (const int64_t batch : {1, 3}) {
    Graph g = NewGraph();
    // A convolution of images in front: what follows is channels last.
    Value* x = Relu(g, Conv(g, g.AddInput("x", F32({batch, 3, 5, 7})), 3, 6, 3));
    g.AddOutput(c.build(g, x));
    const Outcome o = Compare(std::move(g), {RandomF32({batch, 3, 5, 7}, 7)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << batch << "\n" << Steps(o);
    if (!DetectCpuFeatures().avx512) continue;  // the fast product is another
    EXPECT_EQ(Parts(o), c.parts) << Steps(o);
    EXPECT_EQ(Count(o, "Concat"), c.concats) << Steps(o);
    EXPECT_EQ(Count(o, "gather view"), c.gathers) << Steps(o);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ConcatOfProducts, testing::ValuesIn(kProductCases),
                         [](const auto& info) { return info.param.name; });

TEST(ConcatOfMatrices, ProductsWriteColumnsOfOneMatrix) {
  for (const Shape& shape : {Shape{4, 6}, Shape{2, 3, 6}, Shape{1, 6}}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32(StaticDims(shape)));
    const auto product = [&](int64_t n) {
      return Relu(g, Apply(g, "MatMul", {x, g.AddConstant("w", RandomF32({6, n}, n))}));
    };
    g.AddOutput(Relu(g, Concat(g, {product(5), product(8), product(2)}, -1)));
    const Outcome o = Compare(std::move(g), {RandomF32(shape, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << Steps(o);
    if (!DetectCpuFeatures().avx512) continue;
    EXPECT_EQ(Count(o, "Concat"), 0) << Steps(o);
    EXPECT_EQ(Parts(o), shape.front() == 1 ? 0 : 3) << Steps(o);  // one row: buffers join
  }
}

// --- dense parts: buffers in buffers -------------------------------------------------------------

struct BufferCase {
  std::string name;
  std::function<Value*(Graph&, Value*)> build;  // from an f32 [1, 6, 5, 7]
  int concats = 0;                              // Concats that still copy something
};

// Products whose layout has no gaps along axis 0.
const BufferCase kBufferCases[] = {
    {"FirstAxis",
     [](Graph& g, Value* x) {
       return Relu(g, Concat(g, {Apply(g, "Exp", {x}), Apply(g, "Neg", {x})}, 0));
     }},
    {"InputOfTheGraphIsCopied",
     [](Graph& g, Value* x) {
       Value* y = g.inputs()[0];
       return Relu(
           g,
           Concat(g, {Apply(g, "Exp", {x}), Apply(g, "Slice", {y, I64(g, {0}), I64(g, {1})})}, 0));
     },
     1},
    {"ConcatOfConcat",
     [](Graph& g, Value* x) {
       Value* inner = Concat(g, {Apply(g, "Exp", {x}), Apply(g, "Neg", {x})}, 0);
       return Relu(g, Concat(g, {Apply(g, "Tanh", {x}), inner}, 0));
     }},
    {"ValueTwice",
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Exp", {x});
       return Relu(g, Concat(g, {e, e}, 0));
     },
     1},
    {"OverwrittenLater",  // Relu(e) after the Concat must not write into what the Concat holds
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Exp", {x});
       Value* c = Concat(g, {e, Apply(g, "Neg", {x})}, 0);
       Value* r = Apply(g, "Neg", {e});
       return Concat(g, {Apply(g, "Sub", {c, r}), Apply(g, "Tanh", {c})}, 0);
     }},
    {"WholeOverwrittenBeforeThePartIsRead",
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Exp", {x});
       Value* c = Apply(g, "Neg", {Concat(g, {e, Apply(g, "Neg", {x})}, 0)});
       return Concat(g, {c, Apply(g, "Tanh", {e})}, 0);
     },
     1},  // the part lies in the first Concat already
    {"InPlaceInFront",
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Tanh", {Apply(g, "Exp", {x})});
       return Apply(g, "Neg", {Concat(g, {Apply(g, "Sqrt", {e}), Apply(g, "Neg", {x})}, 0)});
     }},
    {"PartIsAnOutput",
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Exp", {x});
       g.AddOutput(e);
       return Apply(g, "Neg", {Concat(g, {e, Apply(g, "Neg", {x})}, 0)});
     }},
    {"TwoConcats",
     [](Graph& g, Value* x) {
       Value* e = Apply(g, "Exp", {x});
       Value* a = Apply(g, "Neg", {Concat(g, {e, Apply(g, "Neg", {x})}, 0)});
       Value* b = Apply(g, "Tanh", {Concat(g, {Apply(g, "Sqrt", {e}), e}, 0)});
       return Concat(g, {a, b}, 0);
     },
     1},
    {"HalfOfABufferIsCopied",  // its other half, written last, must not land in the next part
     [](Graph& g, Value* x) {
       Value* rows = Apply(g, "Reshape", {x, I64(g, {2, -1})});
       Value* next = Apply(g, "Neg", {rows});
       Value* e = Apply(g, "Exp", {rows});
       return Relu(g, Concat(g, {Apply(g, "Slice", {e, I64(g, {0}), I64(g, {1})}), next}, 0));
     },
     1},
};

class ConcatOfBuffers : public testing::TestWithParam<BufferCase> {};

TEST_P(ConcatOfBuffers, AgreesInBothLayouts) {
  for (const bool channels_last : {false, true}) {
    Graph g = NewGraph();
    Value* x = g.AddInput("x", F32({1, 6, 5, 7}));
    Value* start = channels_last ? Conv(g, x, 6, 6, 3) : Apply(g, "Softsign", {x});
    g.AddOutput(GetParam().build(g, start));
    const Outcome o = Compare(std::move(g), {RandomF32({1, 6, 5, 7}, 7)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << channels_last << "\n" << Steps(o);
    EXPECT_EQ(Count(o, "Concat"), GetParam().concats) << channels_last << "\n" << Steps(o);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ConcatOfBuffers, testing::ValuesIn(kBufferCases),
                         [](const auto& info) { return info.param.name; });

// Box heads: images become rows of numbers, and the rows of all sizes one list.
TEST(ConcatOfBuffers, HeadsOfADetectorWriteOneList) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({1, 3, 8, 8}));
  std::vector<Value*> heads;
  for (const int64_t stride : {1, 2, 4}) {
    Value* y = Apply(g, "Conv", {x, g.AddConstant("w", RandomF32({4, 3, 3, 3}, stride))},
                     {{"strides", std::vector<int64_t>{stride, stride}},
                      {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    y = Apply(g, "Transpose", {y}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
    heads.push_back(Apply(g, "Reshape", {y, I64(g, {1, -1, 2})}));
  }
  g.AddOutput(Apply(g, "Softmax", {Concat(g, heads)}));
  const Outcome o = Compare(std::move(g), {RandomF32({1, 3, 8, 8}, 7)}, kAccumulate);
  EXPECT_LE(o.disagreement, 1) << Steps(o);
  EXPECT_EQ(Count(o, "Concat") + Count(o, "gather view"), 0) << Steps(o);
}

// What a branch collects holds a value from outside, which is read again after the If.
TEST(ConcatOfBuffers, BranchesCollectWhatTheyCapture) {
  for (const bool condition : {true, false}) {
    const auto branch = [](const std::string& op, bool first) {
      Graph b("branch");
      b.opsets()[""] = 20;
      Value* e = b.AddInput("e", F32({4, 8}));
      Value* own = Apply(b, op, {Apply(b, "Neg", {e})});
      b.AddOutput(Apply(b, "Tanh", {first ? Concat(b, {e, own}, 0) : Concat(b, {own, e}, 0)}));
      return std::make_shared<const Graph>(std::move(b));
    };
    Graph g = NewGraph();
    Value* c = g.AddInput("c", {DataType::kBool, Dims{}});
    Value* e = Apply(g, "Exp", {g.AddInput("x", F32({4, 8}))});
    Node* n = g.AddNode({.op = "If",
                         .inputs = {c, e},
                         .outputs = {"y"},
                         .attributes = {{"then_branch", SubgraphPtr(branch("Exp", true))},
                                        {"else_branch", SubgraphPtr(branch("Abs", false))}},
                         .num_captures = 1});
    g.AddOutput(Concat(g, {n->output(0), Apply(g, "Sqrt", {e})}, 0));
    const Outcome o =
        Compare(std::move(g), {Tensor::Scalar(condition), RandomF32({4, 8}, 1)}, kAccumulate);
    EXPECT_LE(o.disagreement, 1) << condition << "\n" << Steps(o);
    EXPECT_FALSE(Uses(o, "reference")) << Steps(o);
    EXPECT_EQ(Count(o, "Concat"), 2) << Steps(o);  // one branch has the value, the other copies it
  }
}

// --- the plan ------------------------------------------------------------------------------------

TEST(FindConcatSlices, NamesPartsThatNobodyCopiesOutAgain) {
  Graph g = NewGraph();
  Value* x = g.AddInput("x", F32({1, 2, 3, 3}));
  Value* alone = Relu(g, x);
  Value* with_image_reader = Relu(g, x);
  Value* output = Relu(g, x);
  Value* twice = Relu(g, x);
  Value* inner = Concat(g, {alone, with_image_reader});
  Value* outer = Concat(g, {output, twice, x, inner, twice}, -3);
  g.AddOutput(
      Apply(g, "MaxPool", {with_image_reader}, {{"kernel_shape", std::vector<int64_t>{2, 2}}}));
  g.AddOutput(output);
  g.AddOutput(outer);
  HT_ASSERT_OK(InferShapes(g));
  const auto slices = FindConcatSlices(g);
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(slices.at(alone).whole, inner);
  EXPECT_EQ(slices.at(alone).start, 0);
  EXPECT_EQ(slices.at(inner).whole, outer);
  EXPECT_EQ(slices.at(inner).axis, 1);
  EXPECT_EQ(slices.at(inner).start, 6);
}

}  // namespace
}  // namespace halftone
