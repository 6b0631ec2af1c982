// A dense row-major tensor that shares its bytes.
//
//   HT_ASSIGN_OR_RETURN(Tensor t, Tensor::Create(DataType::kF32, {2, 3}));   // uninitialised
//   t.mutable_data<float>()[0] = 1.0f;
//   Tensor w = Tensor::Of<int64_t>({2}, {7, 8});
//
// Copying a Tensor copies a reference: both see the same bytes. Write only while you hold the only
// copy; afterwards treat it as immutable, then any thread may read it.
#ifndef HALFTONE_CORE_TENSOR_TENSOR_H_
#define HALFTONE_CORE_TENSOR_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>

#include "absl/log/check.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/buffer.h"
#include "core/tensor/data_type.h"
#include "core/tensor/shape.h"

namespace halftone {

class Tensor {
 public:
  Tensor() = default;  // f32 of shape [0]

  // Uninitialised bytes. InvalidArgument for a bad shape, ResourceExhausted when memory is short.
  static absl::StatusOr<Tensor> Create(DataType type, absl::Span<const int64_t> shape);
  // Bytes inside `buffer` from `offset`. InvalidArgument when they do not fit into it.
  static absl::StatusOr<Tensor> FromBuffer(DataType type, absl::Span<const int64_t> shape,
                                           std::shared_ptr<Buffer> buffer, size_t offset = 0);
  // Bytes that the caller keeps alive and unchanged. Requires a valid shape.
  static Tensor Borrow(DataType type, absl::Span<const int64_t> shape, const void* data);
  // A copy of `values`. Requires: values.size() is the number of elements of `shape`.
  template <typename T>
  static Tensor Of(absl::Span<const int64_t> shape, absl::Span<const T> values);
  template <typename T>
  static Tensor Of(absl::Span<const int64_t> shape, std::initializer_list<T> values) {
    return Of<T>(shape, absl::MakeConstSpan(values.begin(), values.size()));
  }
  template <typename T>
  static Tensor Scalar(T value) {
    return Of<T>({}, {value});
  }

  DataType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t num_elements() const { return num_elements_; }
  int64_t num_bytes() const { return (num_elements_ * BitWidth(type_) + 7) / 8; }

  const std::byte* raw() const { return buffer_ ? buffer_->data() + offset_ : nullptr; }
  std::byte* mutable_raw() { return buffer_->mutable_data() + offset_; }
  absl::Span<const std::byte> bytes() const {
    return absl::MakeConstSpan(raw(), static_cast<size_t>(num_bytes()));
  }

  // Typed elements. Requires: T is the element type (checked).
  template <typename T>
  absl::Span<const T> data() const {
    CHECK(DataTypeOf<T>::value == type_) << "tensor is " << Name(type_);
    return absl::MakeConstSpan(reinterpret_cast<const T*>(raw()), num_elements_);
  }
  template <typename T>
  absl::Span<T> mutable_data() {
    CHECK(DataTypeOf<T>::value == type_) << "tensor is " << Name(type_);
    return absl::MakeSpan(reinterpret_cast<T*>(mutable_raw()), num_elements_);
  }

  // The same bytes under another shape. Requires: as many elements.
  Tensor Reshaped(absl::Span<const int64_t> shape) const;
  // The same bytes seen as another type of the same width.
  Tensor Reinterpreted(DataType type) const;
  // An independent copy.
  absl::StatusOr<Tensor> Clone() const;

  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }
  size_t buffer_offset() const { return offset_; }
  // See Buffer::DropPages.
  void DropPages() const;

  std::string ToString(int max_values = 8) const;  // "f32[2,3] {1, 2, …}"

 private:
  DataType type_ = DataType::kF32;
  Shape shape_ = {0};
  int64_t num_elements_ = 0;
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;
};

// Element-wise conversion between whole-byte types: float to integer truncates towards zero and
// saturates (NaN becomes 0), float to a narrower float rounds to nearest even, to bool is != 0.
// `saturate` is about values beyond the range of an 8-bit float (see EncodeFloat8).
absl::StatusOr<Tensor> Convert(const Tensor& t, DataType to, bool saturate = true);

// Integers of any width as int64; InvalidArgument for other types.
absl::StatusOr<Shape> ToInt64s(const Tensor& t);

template <typename T>
Tensor Tensor::Of(absl::Span<const int64_t> shape, absl::Span<const T> values) {
  absl::StatusOr<Tensor> t = Create(DataTypeOf<T>::value, shape);
  CHECK_OK(t.status());
  CHECK_EQ(static_cast<int64_t>(values.size()), t->num_elements());
  std::copy(values.begin(), values.end(), t->template mutable_data<T>().begin());
  return *std::move(t);
}

}  // namespace halftone

#endif  // HALFTONE_CORE_TENSOR_TENSOR_H_
