#include "core/exec/kernels/indexed_copy.h"

#include <algorithm>
#include <cstring>

namespace halftone {
namespace {

constexpr int64_t kParallelElements = 1 << 15;

// The trailing dimension and the one before it as one table.
std::vector<int64_t> Combine(const std::vector<int64_t>& outer, const std::vector<int64_t>& inner) {
  std::vector<int64_t> out;
  out.reserve(outer.size() * inner.size());
  for (const int64_t o : outer) {
    for (const int64_t i : inner) {
      out.push_back(o == kFillOffset || i == kFillOffset ? kFillOffset : o + i);
    }
  }
  return out;
}

}  // namespace

PreparedCopy::PreparedCopy(IndexedCopy copy) : copy_(std::move(copy)) {
  auto& tables = copy_.offsets;
  if (tables.empty()) tables.push_back({0});
  // Rows long enough that walking the outer dimensions costs little.
  constexpr size_t kRow = 4096;
  while (tables.size() > 1 && tables.back().size() * tables[tables.size() - 2].size() <= kRow) {
    const std::vector<int64_t> inner = std::move(tables.back());
    tables.pop_back();
    tables.back() = Combine(tables.back(), inner);
  }
  for (size_t i = 0; i + 1 < tables.size(); ++i) {
    outer_.push_back(static_cast<int64_t>(tables[i].size()));
  }
  row_ = static_cast<int64_t>(tables.back().size());
  for (int64_t i = 0; i < row_; ++i) {
    const int64_t at = tables.back()[i];
    if (!pieces_.empty()) {
      Piece& p = pieces_.back();
      const bool follows =
          at == kFillOffset ? p.src == kFillOffset : p.src != kFillOffset && p.src + p.length == at;
      if (follows) {
        ++p.length;
        continue;
      }
    }
    pieces_.push_back({i, at, 1});
  }
}

template <typename T>
void PreparedCopy::RunTyped(const T* src, T* dst) const {
  const T fill = static_cast<T>(copy_.fill);
  const int64_t rows = ElementCount(outer_);
#pragma omp parallel for if (rows * row_ >= kParallelElements) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    int64_t rest = r, base = copy_.src_offset;
    bool outside = false;
    for (size_t d = outer_.size(); d-- > 0;) {
      const int64_t at = copy_.offsets[d][rest % outer_[d]];
      rest /= outer_[d];
      outside |= at == kFillOffset;
      if (!outside) base += at;
    }
    T* to = dst + r * row_;
    if (outside) {
      std::fill_n(to, row_, fill);
      continue;
    }
    for (const Piece& p : pieces_) {
      if (p.src == kFillOffset) {
        std::fill_n(to + p.dst, p.length, fill);
      } else if (p.length == 1) {
        to[p.dst] = src[base + p.src];
      } else {
        std::memcpy(to + p.dst, src + base + p.src, static_cast<size_t>(p.length) * sizeof(T));
      }
    }
  }
}

void PreparedCopy::Run(const void* src, void* dst) const {
  switch (copy_.element_bytes) {
    case 1:
      return RunTyped(static_cast<const uint8_t*>(src), static_cast<uint8_t*>(dst));
    case 2:
      return RunTyped(static_cast<const uint16_t*>(src), static_cast<uint16_t*>(dst));
    case 4:
      return RunTyped(static_cast<const uint32_t*>(src), static_cast<uint32_t*>(dst));
    default:
      return RunTyped(static_cast<const uint64_t*>(src), static_cast<uint64_t*>(dst));
  }
}

}  // namespace halftone
