#include "client/variants.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using Align = Table::Align;
using google::protobuf::util::TimeUtil;

std::string StateText(v1::VariantState state) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::VariantState_Name(state), "VARIANT_STATE_"));
}

int64_t ResidentBytes(const v1::VariantMemory& memory) {
  return memory.weight_bytes() + memory.packed_bytes() + memory.arena_bytes();
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(TimeUtil::DurationToNanoseconds(duration)) * 1e-9;
}

// "now 1.3 MB, fp32 4.9 MB (3.77x smaller)"
std::string BytesAgainst(int64_t bytes, int64_t fp32_bytes) {
  std::string text = absl::StrCat(FormatBytes(bytes), ", fp32 ", FormatBytes(fp32_bytes));
  if (bytes > 0 && fp32_bytes > 0) {
    absl::StrAppend(&text, " (", FormatRatio(static_cast<double>(fp32_bytes) / bytes), " smaller)");
  }
  return text;
}

}  // namespace

absl::StatusOr<v1::ListVariantsResponse> ListVariants(Connection& server,
                                                      const std::string& model) {
  v1::ListVariantsRequest request;
  v1::ListVariantsResponse response;
  request.set_model(model);
  HT_RETURN_IF_ERROR(server.ToStatus(
      server.quantization().ListVariants(server.NewContext().get(), request, &response)));
  return response;
}

Table VariantTable(const v1::ListVariantsResponse& variants) {
  Table table({{"VARIANT"},
               {"STATE"},
               {"DISK", Align::kRight},
               {"RESIDENT", Align::kRight},
               {"VERSION", Align::kRight},
               {"CREATED"},
               {"ID"}});
  for (const v1::Variant& v : variants.variants()) {
    table.AddRow({v.spec_text(), StateText(v.state()), FormatBytes(v.disk_bytes()),
                  FormatBytes(ResidentBytes(v.memory())), absl::StrCat(v.version()),
                  TimeText(v.create_time()), v.id().substr(0, 12)});
  }
  return table;
}

std::string VariantText(const v1::Variant& variant) {
  const v1::VariantMemory& memory = variant.memory();
  Table table({{""}, {""}});
  table.AddRow({"variant", variant.spec_text()});
  table.AddRow({"model", absl::StrCat(variant.model(), " version ", variant.version())});
  table.AddRow({"id", variant.id()});
  table.AddRow({"state", StateText(variant.state())});
  if (!variant.error().empty()) table.AddRow({"error", variant.error()});
  table.AddRow({"on disk", FormatBytes(variant.disk_bytes())});
  table.AddRow({"resident", absl::StrCat(FormatBytes(ResidentBytes(memory)), " (weights ",
                                         FormatBytes(memory.weight_bytes()), ", packed ",
                                         FormatBytes(memory.packed_bytes()), ", arena ",
                                         FormatBytes(memory.arena_bytes()), ")")});
  table.AddRow({"created", TimeText(variant.create_time())});
  return table.Text();
}

std::string TimeText(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M", absl::FromUnixSeconds(time.seconds()),
                          absl::UTCTimeZone());
}

std::string ReportSummary(const v1::Report& report) {
  Table table({{""}, {""}});
  table.AddRow({"variant", report.spec_text()});
  table.AddRow({"SQNR", FormatDecibels(report.sqnr_db())});
  table.AddRow({"top-1 agreement", report.has_top1_agreement_ratio()
                                       ? FormatPercent(report.top1_agreement_ratio())
                                       : "not a classifier"});
  table.AddRow({"largest error", absl::StrCat(report.max_abs_error())});
  table.AddRow({"compared on", report.sample_source()});
  table.AddRow(
      {"weights on disk", BytesAgainst(report.weight_bytes(), report.fp32_weight_bytes())});
  table.AddRow({"resident", BytesAgainst(report.resident_bytes(), report.fp32_resident_bytes())});
  if (report.speedup_ratio() > 0) {
    table.AddRow({"latency", absl::StrCat(FormatSeconds(Seconds(report.latency())), ", fp32 ",
                                          FormatSeconds(Seconds(report.fp32_latency())), " (",
                                          FormatRatio(report.speedup_ratio()),
                                          report.speedup_ratio() < 1 ? " of its speed: SLOWER)"
                                                                     : " faster)")});
  }
  table.AddRow({"built in", absl::StrCat(FormatSeconds(Seconds(report.build_time())),
                                         " on a CPU of class ", report.isa_class())});
  std::string text = table.Text();
  for (const std::string& note : report.notes()) absl::StrAppend(&text, "note: ", note, "\n");
  for (const std::string& warning : report.warnings())
    absl::StrAppend(&text, "warning: ", warning, "\n");
  return text;
}

Table CoverageTable(const google::protobuf::RepeatedPtrField<v1::OperatorCoverage>& coverage) {
  Table table({{"OPERATOR"}, {"NODES", Align::kRight}, {"QUANTIZED", Align::kRight}});
  for (const v1::OperatorCoverage& row : coverage) {
    table.AddRow({row.op(), absl::StrCat(row.total()), absl::StrCat(row.quantized())});
  }
  return table;
}

Table WorstLayers(const google::protobuf::RepeatedPtrField<v1::LayerReport>& layers, size_t count) {
  std::vector<const v1::LayerReport*> order;
  for (const v1::LayerReport& layer : layers) {
    if (layer.sqnr_db() < 999 && layer.sqnr_db() != 0) order.push_back(&layer);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->sqnr_db() < b->sqnr_db(); });
  order.resize(std::min(order.size(), count));
  Table table({{"LAYER"},
               {"OPERATOR"},
               {"PRECISION"},
               {"SQNR", Align::kRight},
               {"WEIGHTS", Align::kRight}});
  for (const v1::LayerReport* layer : order) {
    table.AddRow({layer->node(), layer->op(), layer->precision(), FormatDecibels(layer->sqnr_db()),
                  FormatBytes(layer->weight_bytes())});
  }
  return table;
}

Table FloatReasons(const google::protobuf::RepeatedPtrField<v1::LayerReport>& layers) {
  std::map<std::pair<std::string, std::string>, std::vector<std::string>> nodes;
  for (const v1::LayerReport& layer : layers) {
    if (!layer.reason().empty()) nodes[{layer.op(), layer.reason()}].push_back(layer.node());
  }
  Table table({{"STAYED FLOAT"}, {"NODES", Align::kRight}, {"WHY"}, {"FIRST"}});
  for (const auto& [key, names] : nodes) {
    table.AddRow({key.first, absl::StrCat(names.size()), key.second, names.front()});
  }
  return table;
}

}  // namespace halftone
