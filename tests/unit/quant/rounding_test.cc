#include "core/quant/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace halftone {
namespace {

// Correlated inputs, as the activations of a real layer are.
std::vector<float> Inputs(int64_t columns, int rows, int seed) {
  std::mt19937 rng(static_cast<unsigned>(seed));
  const auto draw = [&] { return static_cast<float>(rng() % 2001) / 1000 - 1; };
  std::vector<float> out;
  for (int r = 0; r < rows; ++r) {
    float common = draw();
    for (int64_t c = 0; c < columns; ++c) {
      common = 0.9f * common + 0.3f * draw();
      out.push_back(common + 0.1f);
    }
  }
  return out;
}

struct Problem {
  int64_t columns;
  std::vector<float> weights;
  RoundingGrid grid;
  std::vector<QParams> params;
  SecondMoment h;
  std::vector<int32_t> nearest;

  double Error(const std::vector<int32_t>& q) const {
    return RoundingError(weights, h, grid, params, q);
  }
};

Problem MakeProblem(int64_t columns, int rows, int64_t group, int bits, int seed) {
  const int32_t limit = (1 << (bits - 1)) - 1;
  Problem p{.columns = columns,
            .weights = Inputs(columns, rows, seed + 1000),
            .grid = {-limit, limit, group},
            .h = SecondMoment(columns)};
  p.h.Add(Inputs(columns, 100, seed));
  p.h.Finish();
  for (int r = 0; r < rows; ++r) {
    for (int64_t first = 0; first < columns; first += group) {
      float largest = 0;
      for (int64_t c = first; c < std::min(first + group, columns); ++c) {
        largest = std::max(largest, std::abs(p.weights[r * columns + c]));
      }
      p.params.push_back(SymmetricQParams(largest, limit));
      for (int64_t c = first; c < std::min(first + group, columns); ++c) {
        const float x = p.weights[r * columns + c] / p.params.back().scale;
        p.nearest.push_back(static_cast<int32_t>(std::nearbyint(x)));
      }
    }
  }
  return p;
}

TEST(SecondMoment, IsTheSumOfOuterProducts) {
  const int64_t columns = 700;  // more than one strip
  const std::vector<float> x = Inputs(columns, 37, 1);
  SecondMoment h(columns);
  h.Add(absl::MakeConstSpan(x).subspan(0, 5 * columns));
  h.Add(absl::MakeConstSpan(x).subspan(5 * columns));
  h.Finish();
  EXPECT_EQ(h.count(), 37);
  for (const auto& [i, j] : {std::pair{0, 0}, {3, 699}, {699, 3}, {512, 511}, {600, 640}}) {
    double want = 0;
    for (int r = 0; r < 37; ++r) want += double{x[r * columns + i]} * x[r * columns + j];
    EXPECT_NEAR(h.row(i)[j], want, 1e-4 * (1 + std::abs(want))) << i << " " << j;
  }
}

TEST(Rounding, WithIndependentInputsTheNearestIsBest) {
  Problem p = MakeProblem(24, 3, 8, 4, 5);
  p.h = SecondMoment(24);
  for (int64_t k = 0; k < 24; ++k) {
    std::vector<float> unit(24, 0.0f);
    unit[k] = static_cast<float>(k + 1);
    p.h.Add(unit);
  }
  p.h.Finish();
  std::vector<int32_t> q(p.nearest.size());
  RoundGptq(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  EXPECT_EQ(q, p.nearest);
  RoundByDescent(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  EXPECT_EQ(q, p.nearest);
}

class RoundingCase : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(RoundingCase, EachMethodIsBetterThanTheOneBefore) {
  const auto [columns, group, bits] = GetParam();
  const Problem p = MakeProblem(columns, 4, group, bits, columns + bits);
  std::vector<int32_t> q(p.nearest.size());
  RoundGptq(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  const double nearest = p.Error(p.nearest), gptq = p.Error(q);
  EXPECT_LT(gptq, 0.7 * nearest);
  RoundByDescent(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  EXPECT_LE(p.Error(q), gptq);
  std::vector<int32_t> from_nearest = p.nearest;
  RoundByDescent(p.weights, p.h, p.grid, p.params, absl::MakeSpan(from_nearest));
  EXPECT_LT(p.Error(from_nearest), 0.7 * nearest);
  for (const int32_t v : q) {
    EXPECT_GE(v, p.grid.qmin);
    EXPECT_LE(v, p.grid.qmax);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, RoundingCase,
                         testing::Values(std::tuple(9, 9, 4), std::tuple(70, 32, 4),
                                         std::tuple(200, 64, 3), std::tuple(200, 200, 8),
                                         std::tuple(333, 32, 4)));

// All 2^8 ways to round up or down.
TEST(Rounding, DescentComesCloseToTheOptimum) {
  double ratio = 0;
  for (int seed = 0; seed < 20; ++seed) {
    const Problem p = MakeProblem(8, 1, 8, 4, seed);
    double best = INFINITY;
    for (int choice = 0; choice < 256; ++choice) {
      std::vector<int32_t> q(8);
      for (int k = 0; k < 8; ++k) {
        const double x = p.weights[k] / p.params[0].scale;
        q[k] = static_cast<int32_t>((choice >> k & 1) != 0 ? std::ceil(x) : std::floor(x));
      }
      best = std::min(best, p.Error(q));
    }
    std::vector<int32_t> q(8);
    RoundGptq(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
    RoundByDescent(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
    ratio += p.Error(q) / best / 20;
  }
  EXPECT_LT(ratio, 1.5);
}

TEST(Rounding, DeadInputsChangeNothing) {
  Problem p = MakeProblem(16, 2, 16, 4, 3);
  p.h = SecondMoment(16);
  p.h.Add(std::vector<float>(32, 0.0f));
  p.h.Finish();
  std::vector<int32_t> q(p.nearest.size());
  RoundGptq(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  EXPECT_EQ(q, p.nearest);
  RoundByDescent(p.weights, p.h, p.grid, p.params, absl::MakeSpan(q));
  EXPECT_EQ(q, p.nearest);
}

}  // namespace
}  // namespace halftone
