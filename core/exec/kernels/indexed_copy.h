// Copies in which every destination coordinate picks its source coordinate from a table: padding in
// all modes, tiling, nearest-neighbour resizing, gathering along one axis.
#ifndef HALFTONE_CORE_EXEC_KERNELS_INDEXED_COPY_H_
#define HALFTONE_CORE_EXEC_KERNELS_INDEXED_COPY_H_

#include <cstdint>
#include <vector>

#include "core/tensor/shape.h"

namespace halftone {

inline constexpr int64_t kFillOffset = INT64_MIN;

struct IndexedCopy {
  // One table per dimension of the dense destination, in storage order: the source offset, in
  // elements, that a coordinate contributes; kFillOffset: the element is the fill value.
  std::vector<std::vector<int64_t>> offsets;
  int64_t src_offset = 0;  // elements
  int element_bytes = 4;   // 1, 2, 4 or 8
  uint64_t fill = 0;       // its low element_bytes are the fill value
};

// The same copy ready to run: rows cut into runs that are contiguous in the source.
class PreparedCopy {
 public:
  explicit PreparedCopy(IndexedCopy copy);
  void Run(const void* src, void* dst) const;

 private:
  template <typename T>
  void RunTyped(const T* src, T* dst) const;

  struct Piece {
    int64_t dst, src, length;  // elements; src may be kFillOffset
  };
  IndexedCopy copy_;
  Shape outer_;  // the dimensions in front of the row
  int64_t row_ = 1;
  std::vector<Piece> pieces_;  // of one row
};

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_KERNELS_INDEXED_COPY_H_
