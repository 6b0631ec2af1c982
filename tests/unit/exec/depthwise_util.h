// Random shapes for the tests of depthwise kernels.
#ifndef HALFTONE_TESTS_UNIT_EXEC_DEPTHWISE_UTIL_H_
#define HALFTONE_TESTS_UNIT_EXEC_DEPTHWISE_UTIL_H_

#include <iterator>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/exec/kernels/depthwise/depthwise.h"

namespace halftone {

inline int64_t Draw(std::mt19937& rng, int64_t low, int64_t high) {
  return low + static_cast<int64_t>(rng() % static_cast<uint32_t>(high - low + 1));
}

inline DepthwiseShape RandomShape(std::mt19937& rng) {
  constexpr int64_t kChannels[] = {1, 3, 16, 17, 32, 33, 64, 65, 95, 96, 128, 144, 240};
  DepthwiseShape s{.batch = Draw(rng, 1, 2), .channels = kChannels[rng() % std::size(kChannels)]};
  s.height = Draw(rng, 1, 12);
  s.width = Draw(rng, 1, 8) == 1 ? Draw(rng, 50, 130) : Draw(rng, 1, 16);
  s.kernel_height = Draw(rng, 1, 7);
  s.kernel_width = Draw(rng, 0, 2) == 0 ? Draw(rng, 1, 7) : s.kernel_height;
  s.stride_height = Draw(rng, 1, 3);
  s.stride_width = Draw(rng, 1, 2);
  s.pad_top = Draw(rng, 0, s.kernel_height);
  s.pad_left = Draw(rng, 0, s.kernel_width);
  // The window may end before the image does, or far behind it.
  s.out_height = Draw(rng, 1, (s.height + s.pad_top) / s.stride_height + 2);
  s.out_width = Draw(rng, 1, (s.width + s.pad_left) / s.stride_width + 2);
  return s;
}

inline std::string DescribeShape(const DepthwiseShape& s) {
  return absl::StrCat("n", s.batch, " c", s.channels, " ", s.height, "x", s.width, " -> ",
                      s.out_height, "x", s.out_width, " kernel ", s.kernel_height, "x",
                      s.kernel_width, " strides ", s.stride_height, ",", s.stride_width, " pads ",
                      s.pad_top, ",", s.pad_left);
}

}  // namespace halftone

#endif  // HALFTONE_TESTS_UNIT_EXEC_DEPTHWISE_UTIL_H_
