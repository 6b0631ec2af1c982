// Text and pictures of a page: escaping, and the three charts of a report as inline SVG.
#ifndef HALFTONE_CORE_VARIANT_SVG_H_
#define HALFTONE_CORE_VARIANT_SVG_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/variant/report.h"

namespace halftone {

// Safe as text and inside of quoted attributes, in HTML and in XML: & < > " ' become entities,
// what is not UTF-8 or no character of XML becomes '?'.
std::string EscapeHtml(absl::string_view text);

// A horizontal bar, kBarWidth units wide for value = full. Requires: full > 0.
inline constexpr double kBarWidth = 240;
std::string BarSvg(double value, double full);

// A variant in the plane of cost and quality. The better ones lie above and to the left.
struct ChartPoint {
  double cost = 1;     // of fp32's: bytes or seconds; > 0
  double sqnr_db = 0;  // kMaxSqnrDb: exact, drawn on the top line
  std::string label;   // short, drawn beside the point
  std::string title;   // a tool tip
  bool emphasized = false;
};
// True where no other point is at least as good in both and better in one.
std::vector<bool> ParetoFront(absl::Span<const ChartPoint> points);
// With the front as a stepped line. `cost_name` stands under the axis.
std::string ParetoSvg(absl::Span<const ChartPoint> points, absl::string_view cost_name);

// fp32 counts upwards, the variant's downwards; each half is scaled to its own largest count.
std::string HistogramSvg(const WeightHistogram& weights);

}  // namespace halftone

#endif  // HALFTONE_CORE_VARIANT_SVG_H_
