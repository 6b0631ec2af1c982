// The wall around oneDNN's C++ API: exceptions become Status, names and types are translated here.
#ifndef HALFTONE_CORE_EXEC_DNNL_UTIL_H_
#define HALFTONE_CORE_EXEC_DNNL_UTIL_H_

#include <dnnl.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/data_type.h"
#include "core/tensor/shape.h"

namespace halftone {

// The process-wide CPU engine (immutable, shared by every plan).
const dnnl::engine& CpuEngine();

// Requires: f32, bf16, f16, i8, u8 or i32.
dnnl::memory::data_type DnnlType(DataType type);

dnnl::memory::dims DnnlDims(absl::Span<const int64_t> shape);

// Row-major, or channels last for rank >= 3 ([N, C, spatial…] stored as [N, spatial…, C]).
dnnl::memory::desc PlainDesc(absl::Span<const int64_t> shape, DataType type);
dnnl::memory::desc ChannelsLastDesc(absl::Span<const int64_t> shape, DataType type);

// True for implementations that are too slow to be used ("ref:any", "simple:any").
bool IsReferenceImpl(absl::string_view impl);

// Calls f; a dnnl::error becomes UNIMPLEMENTED (no such primitive) or INTERNAL.
template <typename F>
auto TryDnnl(absl::string_view what, F&& f) -> absl::StatusOr<decltype(f())> {
  try {
    return f();
  } catch (const dnnl::error& e) {
    const auto message = absl::StrCat(what, ": oneDNN: ", e.what());
    if (e.status == dnnl_unimplemented) return absl::UnimplementedError(message);
    if (e.status == dnnl_out_of_memory) return absl::ResourceExhaustedError(message);
    return absl::InternalError(message);
  }
}

}  // namespace halftone

#endif  // HALFTONE_CORE_EXEC_DNNL_UTIL_H_
