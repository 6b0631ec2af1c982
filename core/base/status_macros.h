// Early return on errors:
//
//   HT_RETURN_IF_ERROR(Verify(graph));
//   HT_ASSIGN_OR_RETURN(Tensor t, Tensor::Create(DataType::kF32, {1, 3}));
#ifndef HALFTONE_CORE_BASE_STATUS_MACROS_H_
#define HALFTONE_CORE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#define HT_CONCAT_INNER_(a, b) a##b
#define HT_CONCAT_(a, b) HT_CONCAT_INNER_(a, b)

#define HT_RETURN_IF_ERROR(expr)             \
  do {                                       \
    absl::Status ht_status_ = (expr);        \
    if (!ht_status_.ok()) return ht_status_; \
  } while (false)

#define HT_ASSIGN_OR_RETURN(lhs, expr) \
  HT_ASSIGN_OR_RETURN_IMPL_(HT_CONCAT_(ht_statusor_, __LINE__), lhs, expr)
#define HT_ASSIGN_OR_RETURN_IMPL_(var, lhs, expr) \
  auto var = (expr);                              \
  if (!var.ok()) return std::move(var).status();  \
  lhs = *std::move(var)

namespace halftone {

// The same error with `where` in front of its message: "Conv 'c1': got rank 3, want 4".
inline absl::Status Annotate(const absl::Status& status, absl::string_view where) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_STATUS_MACROS_H_
