#include "core/exec/kernels/gemv/gemv.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/checked_math.h"
#include "core/exec/cpu_features.h"
#include "core/exec/kernels/gemv/gemv_isa.h"

namespace halftone {
namespace {

constexpr int64_t kChunkBytes = PackedRows::kChunkBytes;
constexpr int64_t kField = 16;  // columns that one shift brings to the front

int64_t ColumnsPerChunk(int bits) { return kChunkBytes * 8 / bits; }

// What cols() is rounded up to: whole chunks, and blocks of GemvVnni for the widths it takes.
int64_t RowQuantum(int bits) {
  return bits == 16 ? ColumnsPerChunk(16) : std::max(ColumnsPerChunk(bits), ColumnsPerChunk(4));
}

// Sets the code of column c in a row of zeros.
void SetCode(uint8_t* row, int64_t c, int bits, uint16_t code) {
  if (bits == 8) {
    row[InRow(c)] = static_cast<uint8_t>(code - 128);
    return;
  }
  if (bits == 16) {
    const auto shifted = static_cast<uint16_t>(code - 32768);
    std::memcpy(row + InRow(2 * c), &shifted, sizeof(shifted));
    return;
  }
  const int64_t chunk = ColumnsPerChunk(bits);
  if (bits == 4) {
    uint8_t* pair = row + InRow(c / chunk * kChunkBytes) + c % (chunk / 2);
    *pair = static_cast<uint8_t>(*pair | code << (c % chunk < chunk / 2 ? 0 : 4));
    return;
  }
  const int64_t lane = c % kField, field = c % chunk / kField;
  uint8_t* word = row + InRow(c / chunk * kChunkBytes) + 4 * lane;
  const int64_t bit = field * bits;
  word[bit / 8] = static_cast<uint8_t>(word[bit / 8] | code << (bit % 8));
}

// The codes of 16 neighbouring columns, without what packing subtracted, as floats.
template <int kBits>
inline void ReadField(const uint8_t* row, int64_t field, float* out) {
  if constexpr (kBits == 8) {
    int8_t q[kField];
    std::memcpy(q, row + InRow(field * kField), sizeof(q));
    for (int l = 0; l < kField; ++l) out[l] = q[l];
  } else if constexpr (kBits == 16) {
    int16_t q[kField];
    std::memcpy(q, row + InRow(field * kField * 2), sizeof(q));
    for (int l = 0; l < kField; ++l) out[l] = q[l];
  } else if constexpr (kBits == 4) {
    uint8_t pairs[kField];
    std::memcpy(pairs, row + InRow(field / 8 * kChunkBytes) + field % 4 * kField, sizeof(pairs));
    const int shift = field % 8 < 4 ? 0 : 4;
    for (int l = 0; l < kField; ++l) out[l] = static_cast<float>(pairs[l] >> shift & 15);
  } else {
    constexpr int kFields = 32 / kBits;
    uint32_t words[kField];
    std::memcpy(words, row + InRow(field / kFields * kChunkBytes), sizeof(words));
    const int shift = static_cast<int>(field % kFields) * kBits;
    for (int l = 0; l < kField; ++l) {
      out[l] = static_cast<float>(static_cast<int32_t>(words[l] >> shift & ((1u << kBits) - 1)));
    }
  }
}

struct WidenRow {
  const PackedRows& w;
  const float* column_scales;
  const float* column_zeros;
};

// One row of weights to out[cols].
template <int kBits>
__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) void WidenOne(
    const WidenRow& task, int64_t r, float* out) {
  const PackedRows& w = task.w;
  const uint8_t* row = w.row(r);
  const int64_t cols = w.cols(), group = w.group();
  const bool uniform = group % kField == 0 || group >= cols;  // within a field
  for (int64_t c = 0, g = 0; c < cols; c += kField) {
    float q[kField];
    ReadField<kBits>(row, c / kField, q);
    const int64_t count = std::min(kField, cols - c);
    if (uniform) {
      if (c >= (g + 1) * group) ++g;
      const GemvParams p = ParamsOf(w, r, g);
      for (int l = 0; l < kField; ++l) q[l] = (q[l] - p.zero) * p.scale;
    } else {
      for (int64_t l = 0; l < count; ++l) {
        const GemvParams p = ParamsOf(w, r, (c + l) / group);
        q[l] = (q[l] - p.zero) * p.scale;
      }
    }
    if (task.column_scales != nullptr) {
      for (int64_t l = 0; l < count; ++l) {
        const float zero = task.column_zeros == nullptr ? 0.0f : task.column_zeros[c + l];
        q[l] = (q[l] - zero) * task.column_scales[c + l];
      }
    }
    if (count == kField) {
      std::memcpy(out + c, q, sizeof(q));
    } else {
      std::copy(q, q + count, out + c);
    }
  }
}

// Calls f<bits>().
template <typename F>
void WithBits(int bits, F f) {
  switch (bits) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 8:
      return f(std::integral_constant<int, 8>());
    default:
      return f(std::integral_constant<int, 16>());
  }
}

using GemvFn = void (*)(const GemvTask&, int64_t, int64_t);

// They sum in different orders, so ONEDNN_MAX_CPU_ISA holds here, too.
GemvFn BestGemv(const CpuFeatures& features) {
  if (features.avx512) return GemvAvx512;
  if (features.avx2 && __builtin_cpu_supports("fma")) return GemvAvx2;
  return GemvPortable;
}

// The task of kernels that read x as it is, in rows padded by zeros.
GemvTask Padded(const PackedRows& w, const float* x, int64_t m, const float* bias, float* y,
                float* scratch) {
  const int64_t stride = w.padded_cols();
  if (stride == w.cols()) return {w, x, stride, m, bias, y};
  for (int64_t i = 0; i < m; ++i) {
    float* padded = scratch + i * stride;
    std::copy(x + i * w.cols(), x + (i + 1) * w.cols(), padded);
    std::fill(padded + w.cols(), padded + stride, 0.0f);
  }
  return {w, scratch, stride, m, bias, y};
}

void RunGemv(GemvFn gemv, const GemvTask& task) {
  const PackedRows& w = task.w;
  constexpr int64_t kRowsPerTask = 32;
  constexpr int64_t kParallelBytes = 1 << 16;
  const int64_t tasks = (w.rows() + kRowsPerTask - 1) / kRowsPerTask;
#pragma omp parallel for schedule(static) if (w.rows() * w.row_bytes() >= kParallelBytes)
  for (int64_t t = 0; t < tasks; ++t) {
    gemv(task, t * kRowsPerTask, std::min(w.rows(), (t + 1) * kRowsPerTask));
  }
}

template <int kBits>
void PortableRow(const GemvTask& task, int64_t r) {
  const PackedRows& w = task.w;
  const int64_t fields = (w.cols() + kField - 1) / kField;
  float sums[PackedRows::kMaxRows][kField] = {};
  for (int64_t f = 0; f < fields; ++f) {
    const GemvParams p = ParamsOf(w, r, f * kField / w.group());
    float q[kField];
    ReadField<kBits>(w.row(r), f, q);
    for (int l = 0; l < kField; ++l) q[l] = (q[l] - p.zero) * p.scale;
    for (int64_t i = 0; i < task.m; ++i) {
      const float* x = task.x + i * task.stride + f * kField;
      for (int l = 0; l < kField; ++l) sums[i][l] += q[l] * x[l];
    }
  }
  for (int64_t i = 0; i < task.m; ++i) {
    float sum = 0;
    for (const float s : sums[i]) sum += s;
    task.y[i * w.rows() + r] = sum + (task.bias == nullptr ? 0.0f : task.bias[r]);
  }
}

}  // namespace

void GemvPortable(const GemvTask& task, int64_t first, int64_t last) {
  WithBits(task.w.bits(), [&](auto bits) {
    for (int64_t r = first; r < last; ++r) PortableRow<bits()>(task, r);
  });
}

float CodeMatrix::At(int64_t r, int64_t c) const {
  const int64_t at = r * groups() + c / group;
  const float q = static_cast<float>(codes[r * cols + c]);
  const float row = (q - zeros[zeros.size() == 1 ? 0 : at]) * scales[at];
  if (column_scales.empty()) return row;
  return (row - (column_zeros.empty() ? 0.0f : column_zeros[c])) * column_scales[c];
}

std::shared_ptr<const PackedRows> PackedRows::Pack(const CodeMatrix& m) {
  std::shared_ptr<PackedRows> out(new PackedRows);
  out->rows_ = m.rows;
  out->cols_ = m.cols;
  out->bits_ = m.bits;
  out->group_ = m.group;
  out->groups_ = m.groups();
  out->padded_cols_ = AlignUp(m.cols, RowQuantum(m.bits));
  out->row_bytes_ = out->padded_cols_ * m.bits / 8;
  const int64_t rows = AlignUp(m.rows, kTile);
  out->codes_ = Buffer::Allocate(static_cast<size_t>(rows * out->row_bytes_));
  if (out->codes_ == nullptr) return nullptr;
  auto* to = reinterpret_cast<uint8_t*>(out->codes_->mutable_data());
  std::memset(to, 0, out->codes_->size());
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.cols; ++c) {
      SetCode(to + (out->row(r) - out->row(0)), c, m.bits, m.codes[r * m.cols + c]);
    }
  }
  out->scale_stride_ = out->groups_ == 1 ? 1 : (out->padded_cols_ + m.group - 1) / m.group;
  out->scales_.assign(static_cast<size_t>(rows * out->scale_stride_), 0.0f);
  if (m.zeros.size() == 1) {
    out->zero_ = m.zeros[0] - out->bias();
  } else {
    out->zeros_.assign(out->scales_.size(), 0);
  }
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t g = 0; g < out->groups_; ++g) {
      const int64_t to_group = out->ParamsAt(r) + g * kTile, from = r * out->groups_ + g;
      out->scales_[to_group] = m.scales[from];
      if (!out->zeros_.empty()) out->zeros_[to_group] = static_cast<uint16_t>(m.zeros[from]);
    }
  }
  const float codes = std::ldexp(1.0f, m.bits);
  out->zeros_are_codes_ = std::all_of(m.zeros.begin(), m.zeros.end(), [codes](float zero) {
    return zero >= 0 && zero < codes && zero == std::floor(zero);
  });
  out->column_scales_ = m.column_scales;
  out->column_zeros_ = m.column_zeros;
  return out;
}

int64_t PackedRows::bytes() const {
  return static_cast<int64_t>(codes_->size() + scales_.size() * sizeof(float) +
                              zeros_.size() * sizeof(uint16_t) +
                              (column_scales_.size() + column_zeros_.size()) * sizeof(float));
}

void PackedRows::Widen(int64_t first, int64_t count, float* out) const {
  const WidenRow task{*this, column_scales_.empty() ? nullptr : column_scales_.data(),
                      column_zeros_.empty() ? nullptr : column_zeros_.data()};
  WithBits(bits_, [&](auto bits) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < count; ++i) WidenOne<bits()>(task, first + i, out + i * cols_);
  });
}

bool PackedRows::multiplies() const {
  if (!column_scales_.empty()) return false;
  if (group_ >= cols_) return true;
  const int64_t fields = group_ / kField;
  return group_ % kField == 0 && (fields & (fields - 1)) == 0;
}

int64_t PackedRows::ScratchFloats(int64_t m) const {
  return m * std::max(padded_cols_, VnniTakes(*this) ? VnniScratchFloats(*this) : 0);
}

void PackedRows::Multiply(const float* x, int64_t m, const float* bias, float* y,
                          float* scratch) const {
  static const CpuFeatures kFeatures = DetectCpuFeatures();
  static const GemvFn kBest = BestGemv(kFeatures);
  if (!kFeatures.avx512 || !kFeatures.vnni || !VnniTakes(*this)) {
    return RunGemv(kBest, Padded(*this, x, m, bias, y, scratch));
  }
  const int64_t stride = VnniScratchFloats(*this);
  for (int64_t i = 0; i < m; ++i) PrepareVnni(*this, x + i * cols_, scratch + i * stride);
  RunGemv(GemvVnni, {*this, scratch, stride, m, bias, y});
}

void PackedRows::MultiplyPortable(const float* x, int64_t m, const float* bias, float* y,
                                  float* scratch) const {
  RunGemv(GemvPortable, Padded(*this, x, m, bias, y, scratch));
}

}  // namespace halftone
