#include "core/quant/rounding.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "absl/log/check.h"

namespace halftone {
namespace {

constexpr double kDamping = 0.01;
constexpr int kMaxSweeps = 8;
constexpr int64_t kBatch = 16;   // inputs added at a time
constexpr int64_t kStrip = 512;  // columns of H that stay in the first cache meanwhile

// One row of weights with its grid.
struct Row {
  absl::Span<const float> w;
  absl::Span<const QParams> params;
  absl::Span<int32_t> q;
};

template <typename F>
void ForEachRow(absl::Span<const float> weights, int64_t columns, const RoundingGrid& grid,
                absl::Span<const QParams> params, absl::Span<int32_t> q, F f) {
  const size_t k = static_cast<size_t>(columns);
  const size_t groups = static_cast<size_t>((columns + grid.group - 1) / grid.group);
  CHECK_EQ(weights.size(), q.size());
  CHECK_EQ(weights.size() / k * groups, params.size());
  for (size_t r = 0; r < weights.size() / k; ++r) {
    f(Row{weights.subspan(r * k, k), params.subspan(r * groups, groups), q.subspan(r * k, k)});
  }
}

int32_t Nearest(double w, const QParams& p, const RoundingGrid& grid) {
  const double q = std::nearbyint(w / p.scale) + p.zero_point;
  return static_cast<int32_t>(std::clamp<double>(q, grid.qmin, grid.qmax));
}
double Widen(int32_t q, const QParams& p) {
  return static_cast<double>(p.scale) * (q - p.zero_point);
}

double Dot(const double* a, const double* b, int64_t n) {
  std::array<double, 8> sums{};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int64_t j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// H = (I + U)·D·(I + U)ᵀ in a given order of columns.
class Factorisation {
 public:
  Factorisation(const SecondMoment& h, const std::vector<int64_t>& order)
      : n_(h.size()), a_(n_ * n_), d_(n_) {
    for (int64_t i = 0; i < n_; ++i) {
      const absl::Span<const float> row = h.row(order[i]);
      for (int64_t j = i + 1; j < n_; ++j) at(i, j) = row[order[j]];
      d_[i] = h.damped(order[i]);
    }
    Factor();
  }

  // U, strictly upper: row i holds what the error of column i costs each later column.
  const double* row(int64_t i) const { return &a_[i * n_]; }

 private:
  double& at(int64_t i, int64_t j) { return a_[i * n_ + j]; }

  // From the last column to the first, each takes off what the later ones explain.
  void Factor() {
    std::vector<double> scaled(n_);
    for (int64_t j = n_ - 1; j >= 0; --j) {
      for (int64_t k = j + 1; k < n_; ++k) scaled[k] = at(j, k) * d_[k];
      const int64_t later = n_ - j - 1;
      d_[j] -= Dot(&scaled[j + 1], &at(j, j) + 1, later);
      // Rounding may leave a pivot that is not positive; damping was to prevent it.
      d_[j] = std::max(d_[j], 1e-30);
      for (int64_t i = 0; i < j; ++i) {
        at(i, j) = (at(i, j) - Dot(&scaled[j + 1], &at(i, j) + 1, later)) / d_[j];
      }
    }
  }

  int64_t n_;
  std::vector<double> a_, d_;
};

// What each column of a row pays: g = H·e.
class Descent {
 public:
  Descent(const Row& row, const SecondMoment& h, const RoundingGrid& grid)
      : row_(row), h_(h), grid_(grid), g_(row.w.size(), 0.0) {
    for (size_t k = 0; k < row.w.size(); ++k) {
      AddError(k, Widen(row.q[k], params(k)) - row.w[k]);
    }
  }

  void Run() {
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
      bool moved = false;
      for (size_t k = 0; k < row_.w.size(); ++k) moved |= Improve(k);
      if (!moved) return;
    }
  }

 private:
  const QParams& params(size_t k) const {
    return row_.params[k / static_cast<size_t>(grid_.group)];
  }

  void AddError(size_t k, double e) {
    if (e == 0) return;
    const absl::Span<const float> h = h_.row(static_cast<int64_t>(k));
    for (size_t i = 0; i < g_.size(); ++i) g_[i] += e * h[i];
    g_[k] += e * (h_.damped(static_cast<int64_t>(k)) - h[k]);
  }

  bool Improve(size_t k) {
    const QParams& p = params(k);
    const double curvature = h_.damped(static_cast<int64_t>(k));
    if (!(curvature > 0)) return false;
    const int32_t nearest = Nearest(row_.w[k], p, grid_);
    const double wanted = row_.q[k] - g_[k] / curvature / p.scale;
    const int32_t low = std::max(nearest - 1, grid_.qmin);
    const int32_t high = std::min(nearest + 1, grid_.qmax);
    const auto q = static_cast<int32_t>(std::clamp<double>(std::nearbyint(wanted), low, high));
    const double step = static_cast<double>(p.scale) * (q - row_.q[k]);
    if (!(2 * step * g_[k] + step * step * curvature < 0)) return false;
    row_.q[k] = q;
    AddError(k, step);
    return true;
  }

  const Row& row_;
  const SecondMoment& h_;
  const RoundingGrid& grid_;
  std::vector<double> g_;
};

}  // namespace

SecondMoment::SecondMoment(int64_t size)
    : size_(size), h_(static_cast<size_t>(size) * static_cast<size_t>(size), 0.0f) {
  CHECK(size > 0 && size <= kMaxRoundingColumns) << size;
}

void SecondMoment::Add(absl::Span<const float> rows) {
  const int64_t total = static_cast<int64_t>(rows.size()) / size_;
  CHECK_EQ(total * size_, static_cast<int64_t>(rows.size()));
  for (int64_t first = 0; first < total; first += kBatch) {
    const int64_t last = std::min(first + kBatch, total);
    for (int64_t strip = 0; strip < size_; strip += kStrip) {
      const int64_t end = std::min(strip + kStrip, size_);
      for (int64_t i = 0; i < end; ++i) {
        float* const out = &h_[i * size_];
        const int64_t begin = std::max(strip, i);
        for (int64_t r = first; r < last; ++r) {
          const float* const x = &rows[r * size_];
          const float xi = x[i];
          if (xi == 0) continue;
          for (int64_t j = begin; j < end; ++j) out[j] += xi * x[j];
        }
      }
    }
  }
  count_ += total;
}

void SecondMoment::Finish() {
  double sum = 0;
  for (int64_t i = 0; i < size_; ++i) {
    sum += h_[i * size_ + i];
    for (int64_t j = i + 1; j < size_; ++j) h_[j * size_ + i] = h_[i * size_ + j];
  }
  damping_ = kDamping * sum / static_cast<double>(size_);
}

double SecondMoment::damped(int64_t k) const { return h_[k * size_ + k] + damping_; }

void RoundGptq(absl::Span<const float> weights, const SecondMoment& h, const RoundingGrid& grid,
               absl::Span<const QParams> params, absl::Span<int32_t> q) {
  std::vector<int64_t> order(h.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return h.damped(a) > h.damped(b); });
  const Factorisation factors(h, order);
  std::vector<double> owed(h.size());
  ForEachRow(weights, h.size(), grid, params, q, [&](const Row& row) {
    std::fill(owed.begin(), owed.end(), 0.0);
    for (int64_t i = 0; i < h.size(); ++i) {
      const int64_t k = order[i];
      const QParams& p = row.params[k / grid.group];
      row.q[k] = Nearest(row.w[k] + owed[i], p, grid);
      const double error = row.w[k] - Widen(row.q[k], p);
      const double* const u = factors.row(i);
      for (int64_t j = i + 1; j < h.size(); ++j) owed[j] += error * u[j];
    }
  });
}

void RoundByDescent(absl::Span<const float> weights, const SecondMoment& h,
                    const RoundingGrid& grid, absl::Span<const QParams> params,
                    absl::Span<int32_t> q) {
  ForEachRow(weights, h.size(), grid, params, q,
             [&](const Row& row) { Descent(row, h, grid).Run(); });
}

double RoundingError(absl::Span<const float> weights, const SecondMoment& h,
                     const RoundingGrid& grid, absl::Span<const QParams> params,
                     absl::Span<const int32_t> q) {
  double total = 0;
  std::vector<int32_t> copy(q.begin(), q.end());
  std::vector<double> e(h.size());
  ForEachRow(weights, h.size(), grid, params, absl::MakeSpan(copy), [&](const Row& row) {
    for (int64_t k = 0; k < h.size(); ++k) {
      e[k] = Widen(row.q[k], row.params[k / grid.group]) - row.w[k];
    }
    for (int64_t k = 0; k < h.size(); ++k) {
      double g = e[k] * (h.damped(k) - h.row(k)[k]);
      for (int64_t i = 0; i < h.size(); ++i) g += e[i] * h.row(k)[i];
      total += e[k] * g;
    }
  });
  return total;
}

}  // namespace halftone
