#include "core/variant/report_html.h"

#include <gmock/gmock.h>

#include <regex>

#include "core/variant/svg.h"

namespace halftone {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

ReportPage TwoVariants() {
  const WeightHistogram weights = {.min = -1, .max = 1, .fp32 = {1, 4}, .variant = {2, 3}};
  const VariantReport int8 = {
      .spec = "int8",
      .isa_class = "vnni",
      .sample_source = "calibration set 'a' (3 samples)",
      .sample_count = 3,
      .sqnr_db = 30,
      .top1_agreement = 0.99,
      .layers =
          {{.node = "conv1", .op = "Conv", .precision = "int8", .sqnr_db = 40, .weights = weights},
           {.node = "conv2", .op = "Conv", .precision = "int8", .sqnr_db = 10, .weights = weights},
           {.node = "fc", .op = "Gemm", .precision = "f32", .reason = "too good", .sqnr_db = 999}},
      .coverage = {{"Conv", 2, 2}, {"Gemm", 1, 0}},
      .fp32_weight_bytes = 4000,
      .weight_bytes = 1000,
      .latency_seconds = 0.001,
      .fp32_latency_seconds = 0.002,
      .speedup = 2,
      .warnings = {"a risk"}};
  VariantReport fp16 = int8;
  fp16.spec = "fp16";
  fp16.sqnr_db = 70;
  fp16.weight_bytes = 2000;
  return {.model = "m", .version = 4, .variants = {{"id8", int8}, {"id16", fp16}}, .chosen = 0};
}

// The numbers in front of which `pattern` stands, in order.
std::vector<double> NumbersAfter(const std::string& html, const std::string& pattern) {
  const std::regex regex(pattern + "([0-9.]+)");
  std::vector<double> out;
  for (std::sregex_iterator it(html.begin(), html.end(), regex), end; it != end; ++it) {
    out.push_back(std::stod((*it)[1]));
  }
  return out;
}

TEST(EscapeHtml, LeavesNothingThatEndsTextOrAttributes) {
  EXPECT_EQ(EscapeHtml("<b a=\"1\" c='2'>&"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;");
  EXPECT_EQ(EscapeHtml(absl::string_view("a\0b\x1b\x7f\r\n\t", 8)), "a?b???\n\t");
  EXPECT_EQ(EscapeHtml("gr\xc3\xb6\xc3\x9f \xff"), "gr\xc3\xb6\xc3\x9f ?");
  EXPECT_EQ(EscapeHtml("\xef\xbf\xbd\xef\xbf\xbf."), "\xef\xbf\xbd?.");  // U+FFFD may stay
}

TEST(ReportHtml, BarsAreInProportionToTheirLayers) {
  // Full is the best finite one, 40 dB; what is exact is full, too.
  EXPECT_THAT(NumbersAfter(ToHtml(TwoVariants()), "<rect width=\""),
              ElementsAre(kBarWidth, kBarWidth / 4, kBarWidth));
}

TEST(ReportHtml, ALayerThatWasNotComparedHasNoBar) {
  ReportPage page = TwoVariants();
  page.variants[0].report.layers[1].sqnr_db = 0;
  EXPECT_THAT(NumbersAfter(ToHtml(page), "<rect width=\""), SizeIs(2));
}

TEST(ReportHtml, PlacesVariantsBySizeAndSqnr) {
  const std::string html = ToHtml(TwoVariants());
  const std::vector<double> x = NumbersAfter(html, "<circle cx=\"");
  ASSERT_THAT(x, SizeIs(6));  // fp32, int8, fp16 in each chart
  const double zero = 52;     // of the axis
  EXPECT_NEAR((x[1] - zero) / (x[0] - zero), 0.25, 0.01);
  EXPECT_NEAR((x[2] - zero) / (x[0] - zero), 0.5, 0.01);
  EXPECT_NEAR((x[4] - zero) / (x[3] - zero), 0.5, 0.01);
  const std::vector<double> y = NumbersAfter(html, "\" cy=\"");
  EXPECT_GT(y[1], y[2]);  // 30 dB lies below 70 dB
  EXPECT_GT(y[2], y[0]);  // and that below exact
}

TEST(ReportHtml, ShowsHistogramsOfQuantizedLayersOnly) {
  const std::string html = ToHtml(TwoVariants());
  EXPECT_THAT(html, HasSubstr("<a href=\"#layer-1\">conv2</a>"));
  EXPECT_THAT(html, HasSubstr("<div id=\"layer-1\">"));
  EXPECT_THAT(html, Not(HasSubstr("layer-2")));
  // Two bins of 256 units: a quarter of the height, then all of it; downwards two thirds, then all.
  EXPECT_THAT(html, HasSubstr("d=\"M0 90.0V67.5h256V0.0h256V90.0Z\""));
  EXPECT_THAT(html, HasSubstr("d=\"M0 90.0V150.0h256V180.0h256V90.0Z\""));
}

TEST(ReportHtml, LinksOnlyWhereThereIsAServer) {
  ReportPage page = TwoVariants();
  EXPECT_THAT(ToHtml(page), Not(HasSubstr("?spec=")));
  page.links = true;
  EXPECT_THAT(ToHtml(page), HasSubstr("<a href=\"m?spec=id16\">fp16</a>"));
}

TEST(ReportHtml, WithoutAChosenVariantListsThemAll) {
  ReportPage page = TwoVariants();
  page.chosen.reset();
  const std::string html = ToHtml(page);
  EXPECT_THAT(html, HasSubstr("fp16"));
  EXPECT_THAT(html, Not(HasSubstr("layer-")));
  page.variants.clear();
  EXPECT_THAT(ToHtml(page), HasSubstr("version 4"));
}

// Every text field at once, with what would break out of text, attributes, style and comments.
TEST(ReportHtml, NamesCannotBecomeMarkup) {
  const std::string evil = "\"'></td><script>alert(1)</script><!--&\x01\xff]]>";
  ReportPage page = TwoVariants();
  page.links = true;
  page.model = evil;
  for (ReportedVariant& v : page.variants) {
    v.id = evil;
    VariantReport& r = v.report;
    r.spec = r.isa_class = r.sample_source = evil;
    r.warnings = r.notes = {evil};
    r.coverage = {{evil, 1, 1}};
    for (LayerReport& l : r.layers) l.node = l.op = l.precision = evil;
    r.layers[2].reason = evil;
  }
  const std::string html = ToHtml(page);
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;"));
  for (const char* part : {"<script", "<!--", "]]>", "\"'", "\x01", "\xff"}) {
    EXPECT_THAT(html, Not(HasSubstr(part)));
  }
}

TEST(ParetoFront, HoldsWhatNothingBeats) {
  const std::vector<ChartPoint> points = {{.cost = 1, .sqnr_db = 999},
                                          {.cost = 0.5, .sqnr_db = 60},
                                          {.cost = 0.5, .sqnr_db = 50},  // beaten in quality
                                          {.cost = 0.6, .sqnr_db = 60},  // beaten in cost
                                          {.cost = 0.5, .sqnr_db = 60},  // a tie is not beaten
                                          {.cost = 0.25, .sqnr_db = 20}};
  EXPECT_THAT(ParetoFront(points), ElementsAre(true, true, false, false, true, true));
}

}  // namespace
}  // namespace halftone
