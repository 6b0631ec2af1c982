#include "core/exec/kernels/blocked_codes.h"

#include <algorithm>
#include <cstring>

namespace halftone {
namespace {

constexpr int64_t kLanes = 8;     // of one vector
constexpr int64_t kPadding = 64;  // of tables, so that whole runs may read them

// Eight codes from their bytes.
template <int kBits>
inline void ReadLanes(const uint8_t* from, float* q) {
  if constexpr (kBits == 8) {
    for (int l = 0; l < kLanes; ++l) q[l] = from[l];
  } else if constexpr (kBits == 16) {
    uint16_t codes[kLanes];
    std::memcpy(codes, from, sizeof(codes));
    for (int l = 0; l < kLanes; ++l) q[l] = codes[l];
  } else {
    uint32_t word = 0;
    std::memcpy(&word, from, kBits);
    for (int l = 0; l < kLanes; ++l) {
      q[l] = static_cast<float>(static_cast<int32_t>(word >> (l * kBits) & ((1u << kBits) - 1)));
    }
  }
}

// A run of neighbouring rows in one column. `zeros` may be null.
template <int kBits>
__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) void WidenLanes(
    const uint8_t* codes, const float* scales, const uint16_t* zeros, float zero, int64_t n,
    float* out) {
  for (int64_t i = 0; i < n; i += kLanes) {
    float q[kLanes], z[kLanes];
    ReadLanes<kBits>(codes + i * kBits / 8, q);
    for (int l = 0; l < kLanes; ++l) z[l] = zeros == nullptr ? zero : zeros[i + l];
    for (int l = 0; l < kLanes; ++l) out[i + l] = (q[l] - z[l]) * scales[i + l];
  }
}

using LanesFn = void (*)(const uint8_t*, const float*, const uint16_t*, float, int64_t, float*);

LanesFn LanesFor(int bits) {
  switch (bits) {
    case 1:
      return WidenLanes<1>;
    case 2:
      return WidenLanes<2>;
    case 4:
      return WidenLanes<4>;
    case 8:
      return WidenLanes<8>;
    default:
      return WidenLanes<16>;
  }
}

}  // namespace

int64_t WeightLayout::elements() const {
  int64_t n = 1;
  for (const Digit& d : digits) n *= d.count;
  return n;
}

class BlockedCodes::Cursor {
 public:
  Cursor(const WeightLayout& layout, int64_t run)
      : layout_(layout), index_(layout.digits.size(), 0), at_(layout.sizes.size(), 0) {
    for (size_t k = layout.digits.size() - 1; k-- > 0;) {
      Move(k, run % layout.digits[k].count);
      run /= layout.digits[k].count;
    }
  }

  void Next() {
    for (size_t k = layout_.digits.size() - 1; k-- > 0;) {
      if (index_[k] + 1 < layout_.digits[k].count) return Move(k, 1);
      Move(k, -index_[k]);
    }
  }

  int64_t row() const { return row_; }
  int64_t column() const { return column_; }
  // Elements of the run that are not padding.
  int64_t lanes() const {
    const WeightLayout::Digit& last = layout_.digits.back();
    for (size_t d = 0; d < at_.size(); ++d) {
      if (at_[d] >= layout_.sizes[d]) return 0;
    }
    return std::min(last.count, layout_.sizes[last.dim] - at_[last.dim]);
  }

 private:
  void Move(size_t k, int64_t by) {
    const WeightLayout::Digit& d = layout_.digits[k];
    index_[k] += by;
    at_[d.dim] += by * d.step;
    row_ += by * d.step * layout_.row_steps[d.dim];
    column_ += by * d.step * layout_.column_steps[d.dim];
  }

  const WeightLayout& layout_;
  std::vector<int64_t> index_, at_;
  int64_t row_ = 0, column_ = 0;
};

std::shared_ptr<const BlockedCodes> BlockedCodes::Pack(const CodeMatrix& m, WeightLayout layout) {
  std::shared_ptr<BlockedCodes> out(new BlockedCodes);
  out->layout_ = std::move(layout);
  out->elements_ = out->layout_.elements();
  out->run_ = out->layout_.digits.back().count;
  out->bits_ = m.bits;
  int64_t stored = 0;
  Cursor counter(out->layout_, 0);
  for (int64_t run = 0; run < out->runs(); ++run, counter.Next()) {
    if (run % out->runs_per_task() == 0) out->stored_.push_back(stored);
    stored += out->StoredCodes(counter.lanes());
  }
  // Whole runs are read, so the last one has to exist.
  const int64_t bytes = ((stored + out->run_) * m.bits + 7) / 8 + kLanes * 2;
  out->codes_ = Buffer::Allocate(static_cast<size_t>(bytes));
  if (out->codes_ == nullptr) return nullptr;
  auto* codes = reinterpret_cast<uint8_t*>(out->codes_->mutable_data());
  std::memset(codes, 0, static_cast<size_t>(bytes));
  const int dim = out->layout_.digits.back().dim;
  const int64_t row_step = out->layout_.row_steps[dim];
  const int64_t column_step = out->layout_.column_steps[dim];
  Cursor cursor(out->layout_, 0);
  for (int64_t run = 0, i = 0; run < out->runs(); ++run, cursor.Next()) {
    for (int64_t l = 0; l < cursor.lanes(); ++l) {
      const int64_t r = cursor.row() + l * row_step, c = cursor.column() + l * column_step;
      const uint32_t code = m.codes[r * m.cols + c];
      const int64_t bit = (i + l) * m.bits;
      const uint32_t shifted = code << (bit % 8);
      codes[bit / 8] = static_cast<uint8_t>(codes[bit / 8] | shifted);
      if (m.bits == 16) codes[bit / 8 + 1] = static_cast<uint8_t>(shifted >> 8);
    }
    i += out->StoredCodes(cursor.lanes());
  }
  const int64_t groups = m.groups();
  out->table_stride_ = m.rows;
  out->scales_.assign(static_cast<size_t>(groups * m.rows + kPadding), 0.0f);
  if (m.zeros.size() == 1) {
    out->zero_ = m.zeros[0];
  } else {
    out->zeros_.assign(out->scales_.size(), 0);
  }
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      out->scales_[g * m.rows + r] = m.scales[r * groups + g];
      if (!out->zeros_.empty()) {
        out->zeros_[g * m.rows + r] = static_cast<uint16_t>(m.zeros[r * groups + g]);
      }
    }
  }
  for (int64_t c = 0; c < m.cols && groups > 1; ++c) {
    out->group_of_column_.push_back(static_cast<int32_t>(c / m.group));
  }
  out->column_scales_ = m.column_scales;
  out->column_zeros_ = m.column_zeros;
  return out;
}

int64_t BlockedCodes::bytes() const {
  return static_cast<int64_t>(
      codes_->size() + scales_.size() * sizeof(float) + zeros_.size() * sizeof(uint16_t) +
      group_of_column_.size() * sizeof(int32_t) + stored_.size() * sizeof(int64_t) +
      (column_scales_.size() + column_zeros_.size()) * sizeof(float));
}

uint16_t BlockedCodes::CodeAt(int64_t i) const {
  const auto* bytes = reinterpret_cast<const uint8_t*>(codes_->data());
  const int64_t bit = i * bits_;
  if (bits_ == 16) return static_cast<uint16_t>(bytes[bit / 8] | bytes[bit / 8 + 1] << 8);
  return static_cast<uint16_t>(bytes[bit / 8] >> (bit % 8) & ((1 << bits_) - 1));
}

int64_t BlockedCodes::runs_per_task() const { return std::max<int64_t>(1, 8192 / run_); }

int64_t BlockedCodes::StoredCodes(int64_t lanes) const {
  return std::min(run_, (lanes + kLanes - 1) / kLanes * kLanes);
}

void BlockedCodes::WidenAny(const Cursor& at, int64_t stored, int64_t lanes, float* out) const {
  const int dim = layout_.digits.back().dim;
  for (int64_t l = 0; l < lanes; ++l) {
    const int64_t r = at.row() + l * layout_.row_steps[dim];
    const int64_t c = at.column() + l * layout_.column_steps[dim];
    const int64_t table = (group_of_column_.empty() ? 0 : group_of_column_[c] * table_stride_) + r;
    float w = CodeAt(stored + l);
    w = (w - (zeros_.empty() ? zero_ : zeros_[table])) * scales_[table];
    if (!column_scales_.empty()) {
      w = (w - (column_zeros_.empty() ? 0.0f : column_zeros_[c])) * column_scales_[c];
    }
    out[l] = w;
  }
}

void BlockedCodes::WidenRuns(int64_t first, int64_t last, int64_t stored, float* out) const {
  const LanesFn widen = LanesFor(bits_);
  const auto* codes = reinterpret_cast<const uint8_t*>(codes_->data());
  const int dim = layout_.digits.back().dim;
  const bool vectors = run_ % kLanes == 0 && run_ <= kPadding && layout_.row_steps[dim] == 1 &&
                       layout_.column_steps[dim] == 0 && column_scales_.empty();
  Cursor at(layout_, first);
  for (int64_t run = first; run < last; ++run, at.Next()) {
    float* to = out + run * run_;
    const int64_t lanes = at.lanes();
    if (vectors && lanes > 0) {
      const int64_t group = group_of_column_.empty() ? 0 : group_of_column_[at.column()];
      const int64_t table = group * table_stride_ + at.row();
      widen(codes + stored * bits_ / 8, scales_.data() + table,
            zeros_.empty() ? nullptr : zeros_.data() + table, zero_, run_, to);
    } else {
      WidenAny(at, stored, lanes, to);
    }
    stored += StoredCodes(lanes);
    std::fill(to + lanes, to + run_, 0.0f);
  }
}

void BlockedCodes::Widen(float* out) const {
  const int64_t tasks = static_cast<int64_t>(stored_.size());
#pragma omp parallel for schedule(static) if (tasks > 1)
  for (int64_t t = 0; t < tasks; ++t) {
    WidenRuns(t * runs_per_task(), std::min(runs(), (t + 1) * runs_per_task()), stored_[t], out);
  }
}

}  // namespace halftone
