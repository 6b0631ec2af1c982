#include "core/variant/report_html.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/format.h"
#include "core/quant/error_stats.h"
#include "core/variant/svg.h"

namespace halftone {
namespace {

constexpr absl::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width"/>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 1040px; margin: 2em auto; padding: 0 1em }
h1, h2 { line-height: 1.2; margin: 1.4em 0 .5em }
table { border-collapse: collapse }
th { text-align: left; font-weight: 600; color: #5b6b7b }
th, td { padding: 2px 14px 2px 0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td.name { max-width: 330px; overflow-wrap: anywhere }
tr.chosen td { background: #fdf1dc }
.float, .note { color: #7b8896 }
td.slow { color: #b3261e; font-weight: 600 }
.warning { background: #fdf1dc; border-left: 4px solid #e08a00; padding: 4px 10px; margin: 6px 0 }
.charts { display: flex; flex-wrap: wrap; gap: 24px }
svg { max-width: 100%; height: auto; vertical-align: middle }
svg text { font: 12px system-ui, sans-serif; fill: #5b6b7b }
.bar { background: #edf1f5 }
.bar rect, .before, .point circle { fill: #2f6fb0 }
tr.float .bar rect { fill: #b4c0cc }
.after, .point.chosen circle { fill: #e08a00 }
.axis line { stroke: #e3e8ed }
.front { fill: none; stroke: #2f6fb0; stroke-dasharray: 4 3 }
details { border-top: 1px solid #e3e8ed; padding: 4px 0 }
summary { cursor: pointer; overflow-wrap: anywhere }
</style>
)";

std::string Cell(absl::string_view text, absl::string_view type = "") {
  return absl::StrCat("<td", type.empty() ? "" : absl::StrCat(" class=\"", type, "\""), ">",
                      EscapeHtml(text), "</td>");
}
std::string Number(absl::string_view text) { return Cell(text, "n"); }

// The largest SQNR that is a number among `values`: what a full bar means.
template <typename T>
double Largest(const std::vector<T>& items) {
  double full = 1;
  for (const T& item : items) {
    if (item.sqnr_db < kMaxSqnrDb) full = std::max(full, item.sqnr_db);
  }
  return full;
}

std::string Top1(const VariantReport& r) {
  return r.top1_agreement < 0 ? "-" : FormatPercent(r.top1_agreement);
}
bool Measured(const VariantReport& r) {
  return r.latency_seconds > 0 && r.fp32_latency_seconds > 0;
}

// Marked where the layer is slower than in fp32.
std::string TimeRatio(const LayerReport& l) {
  if (l.fp32_seconds <= 0) return Number("-");
  const double ratio = l.seconds / l.fp32_seconds;
  return Cell(FormatRatio(ratio), ratio > kSlowLayer ? "n slow" : "n");
}

class Page {
 public:
  explicit Page(const ReportPage& page) : page_(page) {}

  std::string Write() {
    const std::string title =
        page_.chosen ? absl::StrCat(page_.model, " ", Chosen().spec) : page_.model;
    absl::StrAppend(&out_, kHead, "<title>", EscapeHtml(title), "</title></head>\n<body><h1>");
    if (page_.links && page_.chosen) {
      absl::StrAppend(&out_, "<a href=\"", EscapeHtml(page_.model), "\">", EscapeHtml(page_.model),
                      "</a>");
    } else {
      absl::StrAppend(&out_, EscapeHtml(page_.model));
    }
    absl::StrAppend(&out_, " <small class=\"note\">version ", page_.version, "</small></h1>\n");
    if (page_.chosen) WriteSummary(Chosen());
    WriteVariants();
    if (page_.chosen) {
      WriteLayers(Chosen().layers);
      WriteHistograms(Chosen().layers);
      WriteCoverage(Chosen().coverage);
    }
    absl::StrAppend(&out_, "</body></html>\n");
    return std::move(out_);
  }

 private:
  const VariantReport& Chosen() const { return page_.variants[*page_.chosen].report; }

  void Heading(absl::string_view text) { absl::StrAppend(&out_, "<h2>", text, "</h2>\n"); }
  void Row(absl::string_view name, absl::string_view value) {
    absl::StrAppend(&out_, "<tr><th>", name, "</th>", Cell(value), "</tr>\n");
  }

  void WriteSummary(const VariantReport& r) {
    Heading(EscapeHtml(r.spec));
    absl::StrAppend(&out_, "<table class=\"summary\">\n");
    if (r.sample_count > 0) {
      Row("Output SQNR", FormatDecibels(r.sqnr_db));
      if (r.top1_agreement >= 0) Row("Top-1 agreement", Top1(r));
      Row("Largest error", absl::StrCat(r.max_abs_error));
    }
    Row("Compared on", r.sample_source);
    Row("Weights",
        absl::StrCat(FormatBytes(r.weight_bytes), ", fp32 ", FormatBytes(r.fp32_weight_bytes)));
    Row("Resident",
        absl::StrCat(FormatBytes(r.resident_bytes), ", fp32 ", FormatBytes(r.fp32_resident_bytes)));
    if (Measured(r)) {
      Row("Latency", absl::StrCat(FormatSeconds(r.latency_seconds), ", fp32 ",
                                  FormatSeconds(r.fp32_latency_seconds), ": ",
                                  FormatRatio(r.speedup), " of its speed"));
    }
    Row("Built",
        absl::StrCat("in ", FormatSeconds(r.build_seconds), " on a CPU of class ", r.isa_class));
    Row("Id", page_.variants[*page_.chosen].id);
    absl::StrAppend(&out_, "</table>\n");
    for (const std::string& note : r.notes) {
      absl::StrAppend(&out_, "<div class=\"note\">", EscapeHtml(note), "</div>\n");
    }
    for (const std::string& warning : r.warnings) {
      absl::StrAppend(&out_, "<div class=\"warning\">", EscapeHtml(warning), "</div>\n");
    }
  }

  // --- the model's variants ---

  // Points for those that `cost` knows (> 0), fp32 first.
  std::vector<ChartPoint> Points(double (*cost)(const VariantReport&)) const {
    std::vector<ChartPoint> points = {
        {.cost = 1, .sqnr_db = kMaxSqnrDb, .label = "fp32", .title = "fp32"}};
    for (size_t i = 0; i < page_.variants.size(); ++i) {
      const VariantReport& r = page_.variants[i].report;
      if (r.sample_count == 0 || !(cost(r) > 0)) continue;
      points.push_back({.cost = cost(r),
                        .sqnr_db = r.sqnr_db,
                        .label = absl::StrCat(i + 1),
                        .title = absl::StrCat(r.spec, ": ", FormatDecibels(r.sqnr_db), ", ",
                                              FormatRatio(cost(r)), " of fp32"),
                        .emphasized = page_.chosen == i});
    }
    return points;
  }

  void WriteVariants() {
    Heading("All variants of the model");
    absl::StrAppend(
        &out_, "<div class=\"charts\">\n",
        ParetoSvg(Points([](const VariantReport& r) {
                    return static_cast<double>(r.weight_bytes) /
                           static_cast<double>(std::max<int64_t>(r.fp32_weight_bytes, 1));
                  }),
                  "bytes of weights, fp32 = 1x"),
        "\n",
        ParetoSvg(Points([](const VariantReport& r) {
                    return Measured(r) ? r.latency_seconds / r.fp32_latency_seconds : 0;
                  }),
                  "latency, fp32 = 1x"),
        "</div>\n<table class=\"variants\"><tr><th class=\"n\"></th><th>Variant</th>"
        "<th class=\"n\">SQNR</th><th class=\"n\">Top-1</th><th class=\"n\">Weights</th>"
        "<th class=\"n\">Size</th><th class=\"n\">Latency</th><th>CPU class</th></tr>\n");
    for (size_t i = 0; i < page_.variants.size(); ++i) WriteVariant(i);
    absl::StrAppend(&out_, "</table>\n");
  }

  void WriteVariant(size_t i) {
    const VariantReport& r = page_.variants[i].report;
    const std::string spec = EscapeHtml(r.spec);
    absl::StrAppend(
        &out_, page_.chosen == i ? "<tr class=\"chosen\">" : "<tr>", Number(absl::StrCat(i + 1)),
        "<td class=\"name\">",
        page_.links ? absl::StrCat("<a href=\"", EscapeHtml(page_.model),
                                   "?spec=", EscapeHtml(page_.variants[i].id), "\">", spec, "</a>")
                    : spec,
        "</td>", Number(r.sample_count > 0 ? FormatDecibels(r.sqnr_db) : "-"), Number(Top1(r)),
        Number(FormatBytes(r.weight_bytes)),
        Number(FormatRatio(static_cast<double>(r.weight_bytes) /
                           static_cast<double>(std::max<int64_t>(r.fp32_weight_bytes, 1)))),
        Number(Measured(r) ? FormatRatio(r.latency_seconds / r.fp32_latency_seconds) : "-"),
        Cell(r.isa_class), "</tr>\n");
  }

  // --- the chosen one's layers ---

  void WriteLayers(const std::vector<LayerReport>& layers) {
    Heading("Layers: SQNR of the output, weights, time");
    absl::StrAppend(&out_,
                    "<table class=\"layers\"><tr><th>Layer</th><th>Operator</th><th>Precision</th>"
                    "<th></th><th class=\"n\">SQNR</th><th class=\"n\">Weights</th>"
                    "<th class=\"n\">Time</th><th class=\"n\">of fp32</th></tr>\n");
    const double full = Largest(layers);
    for (size_t i = 0; i < layers.size(); ++i) {
      const LayerReport& l = layers[i];
      const bool compared = l.sqnr_db != 0;
      const std::string name = EscapeHtml(l.node);
      const bool details = !l.weights.fp32.empty();
      absl::StrAppend(
          &out_, l.reason.empty() ? "<tr>" : "<tr class=\"float\">", "<td class=\"name\">",
          details ? absl::StrCat("<a href=\"#layer-", i, "\">", name, "</a>") : name, "</td>",
          Cell(l.op), Cell(l.reason.empty() ? l.precision : absl::StrCat("f32: ", l.reason)),
          "<td>", compared ? BarSvg(l.sqnr_db, full) : "", "</td>",
          Number(compared ? FormatDecibels(l.sqnr_db) : "-"), Number(FormatBytes(l.weight_bytes)),
          Number(l.fp32_seconds > 0 ? FormatSeconds(l.seconds) : "-"), TimeRatio(l), "</tr>\n");
    }
    absl::StrAppend(&out_, "</table>\n");
  }

  void WriteHistograms(const std::vector<LayerReport>& layers) {
    Heading("Weights before and after");
    absl::StrAppend(&out_,
                    "<p class=\"note\">Choose a layer. fp32 upwards, what the variant computes "
                    "with downwards, each to its own largest count.</p>\n");
    bool open = true;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].weights.fp32.empty()) continue;
      // Browsers let one of a name be open at a time, and open what a link to the inside points at.
      absl::StrAppend(&out_, "<details name=\"layer\"", open ? " open=\"open\"" : "", "><summary>",
                      EscapeHtml(layers[i].node), " <span class=\"note\">",
                      EscapeHtml(layers[i].op), ", ", EscapeHtml(layers[i].precision),
                      "</span></summary><div id=\"layer-", i, "\">",
                      HistogramSvg(layers[i].weights), "</div></details>\n");
      open = false;
    }
  }

  void WriteCoverage(const std::vector<OperatorCoverage>& coverage) {
    Heading("Coverage");
    absl::StrAppend(&out_,
                    "<table class=\"coverage\"><tr><th>Operator</th><th class=\"n\">Nodes</th>"
                    "<th class=\"n\">Quantized</th></tr>\n");
    for (const OperatorCoverage& c : coverage) {
      absl::StrAppend(&out_, "<tr>", Cell(c.op), Number(absl::StrCat(c.total)),
                      Number(absl::StrCat(c.quantized)), "</tr>\n");
    }
    absl::StrAppend(&out_, "</table>\n");
  }

  const ReportPage& page_;
  std::string out_;
};

}  // namespace

std::string ToHtml(const ReportPage& page) { return Page(page).Write(); }

}  // namespace halftone
