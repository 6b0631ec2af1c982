// One decoder per kind of file. Only decode.cc wants this.
#ifndef HALFTONE_CORE_IMAGE_CODECS_H_
#define HALFTONE_CORE_IMAGE_CODECS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace halftone {

struct RgbImage {
  int64_t width = 0, height = 0;
  std::vector<uint8_t> pixels;  // three bytes each, row by row from the top
};

using Bytes = absl::Span<const uint8_t>;

// An image of this size with room for its pixels, or why it cannot be.
absl::StatusOr<RgbImage> MakeImage(int64_t width, int64_t height);
// "png: what", as InvalidArgument.
absl::Status ImageError(absl::string_view kind, absl::string_view what);
// Copies the first three of every `channels` bytes of `from`, which has as many pixels.
void TakeRgb(const uint8_t* from, int channels, RgbImage& image);

absl::StatusOr<RgbImage> DecodeJpeg(Bytes file);
absl::StatusOr<RgbImage> DecodeJpeg2000(Bytes file);
absl::StatusOr<RgbImage> DecodePng(Bytes file);
absl::StatusOr<RgbImage> DecodeTiff(Bytes file);
absl::StatusOr<RgbImage> DecodeWebp(Bytes file);
absl::StatusOr<RgbImage> DecodeBmp(Bytes file);
absl::StatusOr<RgbImage> DecodePnm(Bytes file);

}  // namespace halftone

#endif  // HALFTONE_CORE_IMAGE_CODECS_H_
