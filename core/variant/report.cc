#include "core/variant/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace halftone {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kReportVersion = 1;

// JSON has no infinity; no real measurement is larger.
double Finite(double x) {
  constexpr double kLargest = 1e300;
  if (std::isnan(x)) return 0;
  return std::isinf(x) ? std::copysign(kLargest, x) : x;
}

// One string "0 12 3": a line of the file instead of one for each bin.
Json CountsJson(const std::vector<int64_t>& counts) { return absl::StrJoin(counts, " "); }

std::vector<int64_t> CountsFrom(const std::string& text) {
  std::vector<int64_t> counts;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!absl::SimpleAtoi(word, &counts.emplace_back())) counts.back() = 0;
  }
  return counts;
}

Json LayerJson(const LayerReport& l) {
  Json j = {{"node", l.node},
            {"op", l.op},
            {"precision", l.precision},
            {"reason", l.reason},
            {"sqnr_db", Finite(l.sqnr_db)},
            {"weight_bytes", l.weight_bytes}};
  if (l.fp32_seconds > 0) {
    j["seconds"] = l.seconds;
    j["fp32_seconds"] = l.fp32_seconds;
  }
  if (!l.weights.fp32.empty()) {
    j["weights"] = {{"min", Finite(l.weights.min)},
                    {"max", Finite(l.weights.max)},
                    {"fp32", CountsJson(l.weights.fp32)},
                    {"variant", CountsJson(l.weights.variant)}};
  }
  return j;
}

LayerReport LayerFrom(const Json& j) {
  LayerReport l = {.node = j.at("node"),
                   .op = j.at("op"),
                   .precision = j.at("precision"),
                   .reason = j.at("reason"),
                   .sqnr_db = j.at("sqnr_db"),
                   .weight_bytes = j.at("weight_bytes"),
                   .seconds = j.value("seconds", 0.0),
                   .fp32_seconds = j.value("fp32_seconds", 0.0)};
  if (const auto weights = j.find("weights"); weights != j.end()) {
    l.weights = {.min = weights->at("min"),
                 .max = weights->at("max"),
                 .fp32 = CountsFrom(weights->at("fp32")),
                 .variant = CountsFrom(weights->at("variant"))};
  }
  return l;
}

// The scalar fields, once for both directions.
template <typename Report, typename F>
void ForEachScalar(Report& r, F&& f) {
  f("spec", r.spec);
  f("isa_class", r.isa_class);
  f("sample_source", r.sample_source);
  f("sample_count", r.sample_count);
  f("sqnr_db", r.sqnr_db);
  f("top1_agreement", r.top1_agreement);
  f("max_abs_error", r.max_abs_error);
  f("fp32_weight_bytes", r.fp32_weight_bytes);
  f("weight_bytes", r.weight_bytes);
  f("resident_bytes", r.resident_bytes);
  f("fp32_resident_bytes", r.fp32_resident_bytes);
  f("latency_seconds", r.latency_seconds);
  f("fp32_latency_seconds", r.fp32_latency_seconds);
  f("speedup", r.speedup);
  f("build_seconds", r.build_seconds);
}

VariantReport FromJson(const Json& j) {
  VariantReport r;
  ForEachScalar(r, [&](const char* name, auto& field) { j.at(name).get_to(field); });
  for (const Json& l : j.at("layers")) r.layers.push_back(LayerFrom(l));
  for (const Json& c : j.at("coverage")) {
    r.coverage.push_back(
        {.op = c.at("op"), .total = c.at("total"), .quantized = c.at("quantized")});
  }
  j.at("warnings").get_to(r.warnings);
  if (j.contains("notes")) j.at("notes").get_to(r.notes);  // older reports have none
  return r;
}

}  // namespace

std::string ToJson(const VariantReport& report) {
  Json j = {{"halftone_report", kReportVersion}};
  ForEachScalar(report, [&](const char* name, const auto& field) {
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, double>) {
      j[name] = Finite(field);
    } else {
      j[name] = field;
    }
  });
  j["notes"] = report.notes;
  j["warnings"] = report.warnings;
  j["coverage"] = Json::array();
  for (const OperatorCoverage& c : report.coverage) {
    j["coverage"].push_back({{"op", c.op}, {"total", c.total}, {"quantized", c.quantized}});
  }
  j["layers"] = Json::array();
  for (const LayerReport& l : report.layers) j["layers"].push_back(LayerJson(l));
  // Node names come from files and need not be UTF-8.
  return j.dump(2, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<VariantReport> ReportFromJson(const std::string& json) {
  try {
    const Json j = Json::parse(json);
    const int version = j.at("halftone_report");
    if (version != kReportVersion) {
      return absl::InvalidArgumentError(
          absl::StrCat("report: got version ", version, ", want ", kReportVersion));
    }
    return FromJson(j);
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("report: ", e.what()));
  }
}

}  // namespace halftone
