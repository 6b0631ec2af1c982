#include "server/report_page.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/base/utf8.h"
#include "core/variant/report_html.h"

namespace halftone {

absl::StatusOr<std::string> ReportHtml(const ModelStore& store, const std::string& model,
                                       const std::string& variant, bool links) {
  HT_ASSIGN_OR_RETURN(const ModelInfo info, store.GetModel(model));
  ReportPage page = {.model = model, .version = info.version, .links = links};
  std::string chosen_id;
  if (!variant.empty()) {
    HT_ASSIGN_OR_RETURN(const VariantInfo chosen, store.GetVariant(model, variant));
    HT_RETURN_IF_ERROR(store.GetReport(model, chosen.id).status());
    chosen_id = chosen.id;
    page.version = chosen.version;
  }
  for (const VariantInfo& v : store.ListVariants(model)) {
    if (v.version != page.version) continue;
    absl::StatusOr<VariantReport> report = store.GetReport(model, v.id);
    // fp32 has none; others may be on their way here, or gone since they were listed.
    if (!report.ok()) continue;
    if (v.id == chosen_id) page.chosen = page.variants.size();
    page.variants.push_back({v.id, *std::move(report)});
  }
  if (!chosen_id.empty() && !page.chosen) {
    return absl::NotFoundError(
        absl::StrCat("model '", model, "', variant '", variant, "': was deleted"));
  }
  return ToHtml(page);
}

HttpResponse AnswerReport(const ModelStore& store, const HttpRequest& request) {
  absl::string_view model = request.path;
  absl::ConsumePrefix(&model, "/report");
  absl::ConsumePrefix(&model, "/");
  absl::StatusOr<std::string> page =
      ReportHtml(store, std::string(model), QueryValue(request, "spec"), /*links=*/true);
  if (page.ok()) return {.type = "text/html; charset=utf-8", .body = *std::move(page)};
  const bool ours = absl::IsInternal(page.status()) || absl::IsDataLoss(page.status());
  return {.code = ours ? 500 : 404, .body = Utf8(page.status().message()) + "\n"};
}

}  // namespace halftone
