#include "core/exec/kernels/recurrent.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace halftone {
namespace {

#define HT_VECTORIZED __attribute__((target_clones("default", "avx2", "avx512f")))

// --- activations, in forms that vectorise --------------------------------------------------------

// Cephes' expf: within 2 ulp where the result is normal.
inline float Exp(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  constexpr float kShift = 12582912.0f;  // leaves the nearest integer in the low bits
  const float shifted = x * 1.44269504088896341f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = p * r * r + r + 1.0f;
  // From the bits and not by a cast of n, which may be NaN.
  const uint32_t exponent =
      std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kShift) + 127u;
  return y * std::bit_cast<float>(exponent << 23);
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

// Cephes' tanhf: a polynomial near 0, where the quotient would cancel.
inline float Tanh(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float near = p * z * x + x;
  const float magnitude = std::abs(x);
  const float far = 1.0f - 2.0f / (Exp(2.0f * magnitude) + 1.0f);
  return magnitude < 0.625f ? near : std::copysign(far, x);
}

// --- cells: one row of the batch -----------------------------------------------------------------

HT_VECTORIZED void LstmRow(const float* gates, int64_t n, float* h, float* c) {
  const float *i = gates, *o = gates + n, *f = gates + 2 * n, *g = gates + 3 * n;
  for (int64_t j = 0; j < n; ++j) {
    const float now = Sigmoid(f[j]) * c[j] + Sigmoid(i[j]) * Tanh(g[j]);
    c[j] = now;
    h[j] = Sigmoid(o[j]) * Tanh(now);
  }
}

// z and r become themselves behind the sigmoid; `gated` is r ∘ h.
HT_VECTORIZED void GruGatesRow(float* gates, int64_t n, const float* h, float* gated) {
  for (int64_t j = 0; j < 2 * n; ++j) gates[j] = Sigmoid(gates[j]);
  for (int64_t j = 0; j < n; ++j) gated[j] = gates[n + j] * h[j];
}
HT_VECTORIZED void GruRow(const float* gates, const float* candidate, int64_t n, float* h) {
  for (int64_t j = 0; j < n; ++j) {
    const float z = gates[j];
    h[j] = (1.0f - z) * Tanh(gates[2 * n + j] + candidate[j]) + z * h[j];
  }
}
HT_VECTORIZED void GruLinearRow(const float* gates, const float* candidate, int64_t n, float* h) {
  for (int64_t j = 0; j < n; ++j) {
    const float z = gates[j];
    h[j] = (1.0f - z) * Tanh(gates[2 * n + j] + gates[n + j] * candidate[j]) + z * h[j];
  }
}

HT_VECTORIZED void TanhRow(const float* gates, int64_t n, float* h) {
  for (int64_t j = 0; j < n; ++j) h[j] = Tanh(gates[j]);
}
HT_VECTORIZED void ReluRow(const float* gates, int64_t n, float* h) {
  for (int64_t j = 0; j < n; ++j) h[j] = std::max(gates[j], 0.0f);
}

bool IsGru(CellKind kind) { return kind == CellKind::kGru || kind == CellKind::kGruLinear; }

}  // namespace

int GateCount(CellKind kind) {
  if (kind == CellKind::kLstm) return 4;
  return IsGru(kind) ? 3 : 1;
}

int64_t RecurrentScratchFloats(const RecurrentLayer& l) {
  const int64_t gates = PaddedColumns(GateCount(l.kind) * l.hidden);
  // The input's share of every step, this step's gates, states h and c, and r ∘ h with its product.
  return l.batch * (l.steps * gates + gates + 3 * l.hidden + PaddedColumns(l.hidden));
}

void RunRecurrent(const RecurrentLayer& l, const float* x, const float* h0, const float* c0,
                  float* y, float* yh, float* yc, float* scratch) {
  const int64_t n = l.hidden, used = GateCount(l.kind) * n, columns = PaddedColumns(used);
  const int64_t candidate_columns = PaddedColumns(n);
  float* from_input = scratch;
  float* gates = from_input + l.steps * l.batch * columns;
  float* h = gates + l.batch * columns;
  float* c = h + l.batch * n;
  float* gated = c + l.batch * n;
  float* candidate = gated + l.batch * n;
  for (int64_t row = 0; row < l.steps * l.batch; ++row) {
    float* to = from_input + row * columns;
    std::fill_n(std::copy_n(l.bias, used, to), columns - used, 0.0f);
  }
  MultiplyPanels(x, l.in, l.steps * l.batch, l.in, l.w, used, from_input);
  const auto state = [&](int64_t b) {
    return (l.batch_first ? b * l.directions + l.direction : l.direction * l.batch + b) * n;
  };
  for (int64_t b = 0; b < l.batch; ++b) {
    const auto start = [&](const float* from, float* to) {
      from == nullptr ? std::fill_n(to + b * n, n, 0.0f)
                      : std::copy_n(from + state(b), n, to + b * n);
    };
    start(h0, h);
    start(c0, c);
  }
  const bool gru = IsGru(l.kind);
  // GRU's state acts on two of three gates at once.
  const int64_t recurrent = gru ? 2 * n : used, recurrent_columns = PaddedColumns(recurrent);
  for (int64_t i = 0; i < l.steps; ++i) {
    const int64_t t = l.reverse ? l.steps - 1 - i : i;
    for (int64_t b = 0; b < l.batch; ++b) {
      std::fill_n(gates + b * recurrent_columns, recurrent_columns, 0.0f);
    }
    MultiplyPanels(h, n, l.batch, n, l.r, recurrent, gates);
    const auto input_row = [&](int64_t b) {
      return from_input + (l.batch_first ? b * l.steps + t : t * l.batch + b) * columns;
    };
    for (int64_t b = 0; b < l.batch; ++b) {
      float* row = input_row(b);
      const float* own = gates + b * recurrent_columns;
      for (int64_t j = 0; j < recurrent; ++j) row[j] += own[j];
      if (gru) GruGatesRow(row, n, h + b * n, gated + b * n);
    }
    if (gru) {
      for (int64_t b = 0; b < l.batch; ++b) {
        std::copy_n(l.candidate_bias, n, candidate + b * candidate_columns);
      }
      MultiplyPanels(l.kind == CellKind::kGru ? gated : h, n, l.batch, n, l.r_candidate, n,
                     candidate);
    }
    for (int64_t b = 0; b < l.batch; ++b) {
      const float* row = input_row(b);
      float* hb = h + b * n;
      const float* cb = candidate + b * candidate_columns;
      if (l.kind == CellKind::kLstm) LstmRow(row, n, hb, c + b * n);
      if (l.kind == CellKind::kGru) GruRow(row, cb, n, hb);
      if (l.kind == CellKind::kGruLinear) GruLinearRow(row, cb, n, hb);
      if (l.kind == CellKind::kRnnTanh) TanhRow(row, n, hb);
      if (l.kind == CellKind::kRnnRelu) ReluRow(row, n, hb);
      if (y == nullptr) continue;
      const int64_t at = l.batch_first ? (b * l.steps + t) * l.directions + l.direction
                                       : (t * l.directions + l.direction) * l.batch + b;
      std::copy_n(hb, n, y + at * n);
    }
  }
  for (int64_t b = 0; b < l.batch; ++b) {
    if (yh != nullptr) std::copy_n(h + b * n, n, yh + state(b));
    if (yc != nullptr) std::copy_n(c + b * n, n, yc + state(b));
  }
}

}  // namespace halftone
