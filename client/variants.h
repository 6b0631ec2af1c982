// Variants and their reports as text.
#ifndef HALFTONE_CLIENT_VARIANTS_H_
#define HALFTONE_CLIENT_VARIANTS_H_

#include <google/protobuf/timestamp.pb.h>

#include <string>

#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/table.h"

namespace halftone {

absl::StatusOr<v1::ListVariantsResponse> ListVariants(Connection& server, const std::string& model);

Table VariantTable(const v1::ListVariantsResponse& variants);
std::string VariantText(const v1::Variant& variant);
std::string TimeText(const google::protobuf::Timestamp& time);  // "2026-01-31 12:00", UTC

// Key figures of a report, one per line, then its warnings.
std::string ReportSummary(const v1::Report& report);

// Operators and how many of their nodes are quantized.
Table CoverageTable(const google::protobuf::RepeatedPtrField<v1::OperatorCoverage>& coverage);

// The `count` layers with the lowest SQNR, worst first. Layers without a measured SQNR are left
// out.
Table WorstLayers(const google::protobuf::RepeatedPtrField<v1::LayerReport>& layers, size_t count);

// Why nodes stayed float: reasons, and how many nodes each one concerns.
Table FloatReasons(const google::protobuf::RepeatedPtrField<v1::LayerReport>& layers);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_VARIANTS_H_
