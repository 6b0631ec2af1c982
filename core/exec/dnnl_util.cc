#include "core/exec/dnnl_util.h"

#include "absl/log/check.h"
#include "absl/log/log.h"
#include "absl/strings/match.h"

namespace halftone {

const dnnl::engine& CpuEngine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::memory::data_type DnnlType(DataType type) {
  switch (type) {
    case DataType::kF32:
      return dnnl::memory::data_type::f32;
    case DataType::kF16:
      return dnnl::memory::data_type::f16;
    case DataType::kBF16:
      return dnnl::memory::data_type::bf16;
    case DataType::kI8:
      return dnnl::memory::data_type::s8;
    case DataType::kU8:
      return dnnl::memory::data_type::u8;
    case DataType::kI32:
      return dnnl::memory::data_type::s32;
    default:
      LOG(FATAL) << "no oneDNN type for " << Name(type);
  }
}

dnnl::memory::dims DnnlDims(absl::Span<const int64_t> shape) {
  return dnnl::memory::dims(shape.begin(), shape.end());
}

dnnl::memory::desc PlainDesc(absl::Span<const int64_t> shape, DataType type) {
  if (shape.empty()) return PlainDesc({1}, type);
  return dnnl::memory::desc(DnnlDims(shape), DnnlType(type), DnnlDims(RowMajorStrides(shape)));
}

dnnl::memory::desc ChannelsLastDesc(absl::Span<const int64_t> shape, DataType type) {
  CHECK_GE(shape.size(), 3u);
  dnnl::memory::dims strides(shape.size());
  const int64_t channels = shape[1];
  strides[1] = 1;
  int64_t stride = channels;
  for (int i = static_cast<int>(shape.size()) - 1; i >= 2; --i) {
    strides[i] = stride;
    stride *= shape[i];
  }
  strides[0] = stride;
  return dnnl::memory::desc(DnnlDims(shape), DnnlType(type), strides);
}

bool IsReferenceImpl(absl::string_view impl) {
  return absl::StrContains(impl, "ref") || absl::StrContains(impl, "simple");
}

}  // namespace halftone
