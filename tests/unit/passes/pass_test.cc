#include "core/passes/pass.h"

#include <gmock/gmock.h>

#include "core/passes/portable.h"
#include "tests/unit/passes/pass_testing.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<bool> Fails(Graph&) { return absl::InvalidArgumentError("no such luck"); }
absl::StatusOr<bool> BreaksTheGraph(Graph& graph) {
  Node* first = graph.nodes()[0];
  graph.SetInput(first, 0, graph.nodes().back()->output(0));
  return true;
}
absl::StatusOr<bool> AlwaysChanges(Graph&) { return true; }

Graph Small() {
  return LoadText("net (float[2] x) => (float[2] y) { a = Relu(x) b = Identity(a) y = Neg(b) }");
}

TEST(RunPasses, NamesThePassThatFails) {
  Graph g = Small();
  const Pass passes[] = {{"unlucky", Fails}};
  EXPECT_THAT(RunPasses(g, passes),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("unlucky"), HasSubstr("no such luck"))));
}

TEST(RunPasses, NoticesABrokenGraph) {
  Graph g = Small();
  const Pass passes[] = {{"breaker", BreaksTheGraph}};
  EXPECT_THAT(RunPasses(g, passes), StatusIs(absl::StatusCode::kInternal, HasSubstr("breaker")));
}

TEST(RunPasses, EndsEvenIfAPassAlwaysSaysChanged) {
  Graph g = Small();
  const Pass passes[] = {{"restless", AlwaysChanges}};
  HT_EXPECT_OK(RunPasses(g, passes));
}

TEST(PortablePasses, ReachAFixedPoint) {
  Graph g = LoadText(R"(net (float[N, 3, 8, 8] x) => (float[N, 4] y)
      <int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float[4, 3, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
       float[4] s = {1, 2, 3, 4}, float three = {3}, float zero = {0}, float six = {6}> {
        q = Pad(x, p) c = Conv(q, w) n = BatchNormalization(c, s, s, s, s) d = Dropout(n)
        h1 = Add(d, three) h2 = Clip(h1, zero, six) h3 = Mul(d, h2) h = Div(h3, six)
        y = ReduceMean<axes = [2, 3], keepdims = 0>(h)
      })");
  const Graph before = g.Clone();
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  EXPECT_EQ(OpsOf(g), "Conv HardSwish GlobalAveragePool Flatten");
  ExpectSame(g, before, 1e-5f);
  const std::string once = g.Dump();
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  EXPECT_EQ(g.Dump(), once);
}

TEST(PortablePasses, InputToOutputSurvives) {
  Graph g = LoadText("net (float[2] x) => (float[2] y) { a = Identity(x) y = Dropout(a) }");
  const Graph before = g.Clone();
  HT_ASSERT_OK(RunPasses(g, PortablePasses()));
  ExpectSame(g, before);
}

}  // namespace
}  // namespace halftone
