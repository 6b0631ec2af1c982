#include "core/variant/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/utf8.h"
#include "core/quant/error_stats.h"

namespace halftone {
namespace {

std::string OpenSvg(double width, double height, absl::string_view kind) {
  return absl::StrFormat(
      "<svg class=\"%s\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\">", kind,
      width, height, width, height);
}

void AddText(std::string& svg, double x, double y, absl::string_view anchor,
             absl::string_view text) {
  absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>", x, y,
                        anchor, EscapeHtml(text));
}

void AddLine(std::string& svg, double x1, double y1, double x2, double y2) {
  absl::StrAppendFormat(&svg, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", x1, y1, x2,
                        y2);
}

// The smallest of 1, 2, 5, 10, 20 … of which at most `most` fit into `span`.
double TickStep(double span, int most) {
  double step = std::pow(10, std::floor(std::log10(span)) - 1);
  for (int i = 0; span / step > most; ++i) step *= i % 3 == 1 ? 2.5 : 2;
  return step;
}

// The frame of a chart, and where values lie in it.
struct Axes {
  static constexpr double kWidth = 460, kHeight = 300;
  static constexpr double kLeft = 52, kRight = 448, kTop = 26, kBottom = 262;
  double max_cost = 1;
  double min_db = 0, max_db = 10;  // what the axis spans; exact lies at max_db

  explicit Axes(absl::Span<const ChartPoint> points) {
    for (const ChartPoint& p : points) {
      max_cost = std::max(max_cost, p.cost);
      if (p.sqnr_db >= kMaxSqnrDb) continue;
      // Worse than noise is just that: no need to see how much.
      min_db = std::min(min_db, std::max(p.sqnr_db, -10.0));
      max_db = std::max(max_db, p.sqnr_db);
    }
    max_cost *= 1.08;
    max_db *= 1.15;
  }
  double X(double cost) const { return kLeft + (kRight - kLeft) * cost / max_cost; }
  double Y(double db) const {
    const double part = (std::clamp(db, min_db, max_db) - min_db) / (max_db - min_db);
    return kBottom - (kBottom - kTop) * part;
  }
};

void AddAxes(std::string& svg, const Axes& axes, absl::string_view cost_name) {
  absl::StrAppend(&svg, "<g class=\"axis\">");
  const double db_step = TickStep(axes.max_db - axes.min_db, 8);
  for (double db = 0; db <= axes.max_db * 0.95; db += db_step) {
    AddLine(svg, Axes::kLeft, axes.Y(db), Axes::kRight, axes.Y(db));
    AddText(svg, Axes::kLeft - 6, axes.Y(db) + 4, "end", absl::StrFormat("%g", db));
  }
  const double cost_step = TickStep(axes.max_cost, 6);
  for (double cost = 0; cost <= axes.max_cost; cost += cost_step) {
    AddLine(svg, axes.X(cost), Axes::kTop, axes.X(cost), Axes::kBottom);
    AddText(svg, axes.X(cost), Axes::kBottom + 16, "middle", absl::StrFormat("%gx", cost));
  }
  AddLine(svg, Axes::kLeft, Axes::kTop, Axes::kRight, Axes::kTop);
  AddText(svg, Axes::kLeft - 6, Axes::kTop + 4, "end", "exact");
  AddText(svg, Axes::kLeft, 12, "start", "SQNR of the outputs, dB");
  AddText(svg, Axes::kRight, Axes::kBottom + 32, "end", cost_name);
  absl::StrAppend(&svg, "</g>");
}

// From the cheapest member to the dearest: what a budget buys.
void AddFront(std::string& svg, const Axes& axes, absl::Span<const ChartPoint> points) {
  const std::vector<bool> front = ParetoFront(points);
  std::vector<const ChartPoint*> members;
  for (size_t i = 0; i < points.size(); ++i) {
    if (front[i]) members.push_back(&points[i]);
  }
  std::sort(members.begin(), members.end(), [](const ChartPoint* a, const ChartPoint* b) {
    return std::pair(a->cost, a->sqnr_db) < std::pair(b->cost, b->sqnr_db);
  });
  absl::StrAppend(&svg, "<path class=\"front\" d=\"");
  for (size_t i = 0; i < members.size(); ++i) {
    const double x = axes.X(members[i]->cost), y = axes.Y(members[i]->sqnr_db);
    if (i == 0) {
      absl::StrAppendFormat(&svg, "M%.1f %.1f", x, y);
    } else {
      absl::StrAppendFormat(&svg, "H%.1fV%.1f", x, y);
    }
  }
  absl::StrAppend(&svg, "\"/>");
}

// The outline of counts over a base line; `height` < 0 draws downwards.
std::string Outline(absl::Span<const int64_t> counts, double width, double base, double height) {
  const int64_t largest = *std::max_element(counts.begin(), counts.end());
  const double bin = width / static_cast<double>(counts.size());
  std::string path = absl::StrFormat("M0 %.1f", base);
  for (const int64_t n : counts) {
    const double part = largest == 0 ? 0 : static_cast<double>(n) / static_cast<double>(largest);
    absl::StrAppendFormat(&path, "V%.1fh%.4g", base - height * part, bin);
  }
  absl::StrAppendFormat(&path, "V%.1fZ", base);
  return path;
}

}  // namespace

std::string EscapeHtml(absl::string_view text) {
  std::string out;
  const std::string valid = Utf8(text);
  for (size_t i = 0; i < valid.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(valid[i]);
    // U+FFFE and U+FFFF are UTF-8 but no characters.
    const bool non_character = valid.compare(i, 2, "\xef\xbf") == 0 && i + 2 < valid.size() &&
                               static_cast<unsigned char>(valid[i + 2]) >= 0xbe;
    if (non_character) {
      out += '?';
      i += 2;
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((c < 0x20 && c != '\t' && c != '\n') || c == 0x7f) {
      out += '?';
    } else {
      out += valid[i];
    }
  }
  return out;
}

std::string BarSvg(double value, double full) {
  constexpr double kHeight = 12;
  const double width = kBarWidth * std::clamp(value / full, 0.0, 1.0);
  return absl::StrCat(
      OpenSvg(kBarWidth, kHeight, "bar"),
      absl::StrFormat("<rect width=\"%.2f\" height=\"%g\"/></svg>", width, kHeight));
}

std::vector<bool> ParetoFront(absl::Span<const ChartPoint> points) {
  std::vector<bool> front;
  for (const ChartPoint& p : points) {
    front.push_back(std::none_of(points.begin(), points.end(), [&](const ChartPoint& q) {
      return q.cost <= p.cost && q.sqnr_db >= p.sqnr_db &&
             (q.cost < p.cost || q.sqnr_db > p.sqnr_db);
    }));
  }
  return front;
}

std::string ParetoSvg(absl::Span<const ChartPoint> points, absl::string_view cost_name) {
  const Axes axes(points);
  std::string svg = OpenSvg(Axes::kWidth, Axes::kHeight, "pareto");
  AddAxes(svg, axes, cost_name);
  AddFront(svg, axes, points);
  for (const ChartPoint& p : points) {
    const double x = axes.X(p.cost), y = axes.Y(p.sqnr_db);
    absl::StrAppendFormat(&svg,
                          "<g class=\"%s\"><circle cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>"
                          "<title>%s</title>",
                          p.emphasized ? "point chosen" : "point", x, y, p.emphasized ? 7 : 5,
                          EscapeHtml(p.title));
    AddText(svg, x + 8, y - 7, "start", p.label);
    absl::StrAppend(&svg, "</g>");
  }
  absl::StrAppend(&svg, "</svg>");
  return svg;
}

std::string HistogramSvg(const WeightHistogram& weights) {
  constexpr double kWidth = 512, kHalf = 90, kLabels = 20;
  if (weights.fp32.empty() || weights.variant.empty()) return "";
  std::string svg = OpenSvg(kWidth, 2 * kHalf + kLabels, "histogram");
  absl::StrAppendFormat(&svg, "<path class=\"before\" d=\"%s\"/>",
                        Outline(weights.fp32, kWidth, kHalf, kHalf));
  absl::StrAppendFormat(&svg, "<path class=\"after\" d=\"%s\"/>",
                        Outline(weights.variant, kWidth, kHalf, -kHalf));
  AddText(svg, 0, 12, "start", "fp32");
  AddText(svg, 0, 2 * kHalf - 4, "start", "variant");
  AddText(svg, 0, 2 * kHalf + 15, "start", absl::StrFormat("%.4g", weights.min));
  AddText(svg, kWidth, 2 * kHalf + 15, "end", absl::StrFormat("%.4g", weights.max));
  absl::StrAppend(&svg, "</svg>");
  return svg;
}

}  // namespace halftone
