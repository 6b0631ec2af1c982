// The report, for eyes: one self-contained HTML page with inline SVG, no script and no other file.
#ifndef HALFTONE_CORE_VARIANT_REPORT_HTML_H_
#define HALFTONE_CORE_VARIANT_REPORT_HTML_H_

#include <optional>
#include <string>
#include <vector>

#include "core/variant/report.h"

namespace halftone {

struct ReportedVariant {
  std::string id;
  VariantReport report;
};

struct ReportPage {
  std::string model;
  int version = 0;
  // All that the charts of the model compare, in the order of their numbers there. fp32 is drawn
  // at 1x, without an entry of its own.
  std::vector<ReportedVariant> variants;
  // Index of the one whose layers are shown; absent: the model's variants alone.
  std::optional<size_t> chosen;
  // Rows of the table link to "MODEL?spec=ID": for a server. A file has nothing to link to.
  bool links = false;
};

// Pure. The page is also well-formed XML. Names are any bytes, from anybody: all text is escaped.
// Requires: chosen < variants.size().
std::string ToHtml(const ReportPage& page);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_REPORT_HTML_H_
