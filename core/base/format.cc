#include "core/base/format.h"

#include <array>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"

namespace halftone {
namespace {

// Three significant digits: "1.24", "12.4", "124".
std::string ThreeDigits(double x) {
  const double size = std::fabs(x);
  return FormatNumber(x, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

}  // namespace

std::string FormatNumber(double x, int decimals) { return absl::StrFormat("%.*f", decimals, x); }

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<absl::string_view, 5> kUnits = {" B", " kB", " MB", " GB", " TB"};
  double x = static_cast<double>(bytes);
  size_t unit = 0;
  for (; std::fabs(x) >= 999.5 && unit + 1 < kUnits.size(); ++unit) x /= 1000;
  return absl::StrCat(unit == 0 ? absl::StrCat(bytes) : ThreeDigits(x), kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  if (seconds < 0.9995e-3) return absl::StrCat(FormatNumber(seconds * 1e6, 0), " us");
  if (seconds < 0.9995) return absl::StrCat(ThreeDigits(seconds * 1e3), " ms");
  return absl::StrCat(ThreeDigits(seconds), " s");
}

std::string FormatDecibels(double db) {
  return db >= 999 ? "exact" : absl::StrCat(FormatNumber(db, 1), " dB");
}

std::string FormatPercent(double ratio) { return absl::StrCat(FormatNumber(ratio * 100, 2), " %"); }

std::string FormatRatio(double ratio) { return absl::StrCat(FormatNumber(ratio, 2), "x"); }

}  // namespace halftone
