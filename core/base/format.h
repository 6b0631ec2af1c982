// Numbers as people read them. Machine output never goes through here.
#ifndef HALFTONE_CORE_BASE_FORMAT_H_
#define HALFTONE_CORE_BASE_FORMAT_H_

#include <cstdint>
#include <string>

namespace halftone {

std::string FormatBytes(int64_t bytes);     // "999 B", "4.93 MB" (decimal units)
std::string FormatSeconds(double seconds);  // "87 us", "1.24 ms", "12.3 s"
std::string FormatDecibels(double db);      // "41.3 dB", "exact" for 999
std::string FormatPercent(double ratio);    // "99.50 %"
std::string FormatRatio(double ratio);      // "2.41x"
std::string FormatNumber(double x, int decimals);

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_FORMAT_H_
