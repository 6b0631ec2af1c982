// The report for eyes, from the store: over HTTP and in GetReport. Thread-safe.
#ifndef HALFTONE_SERVER_REPORT_PAGE_H_
#define HALFTONE_SERVER_REPORT_PAGE_H_

#include <string>

#include "absl/status/statusor.h"
#include "core/store/model_store.h"
#include "server/http_server.h"

namespace halftone {

// The page of one variant (an id or a spec's text) beside all others of its model's version; with
// an empty `variant` these alone, of the newest version. `links`: see ReportPage. Shows what
// ListVariants and GetReport do, and fails as they do; starts no build.
absl::StatusOr<std::string> ReportHtml(const ModelStore& store, const std::string& model,
                                       const std::string& variant, bool links);

// GET /report/MODEL and /report/MODEL?spec=TEXT_OR_ID. 404 for what is not there or is no spec.
HttpResponse AnswerReport(const ModelStore& store, const HttpRequest& request);

}  // namespace halftone

#endif  // HALFTONE_SERVER_REPORT_PAGE_H_
