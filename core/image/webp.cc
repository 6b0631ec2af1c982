#include <webp/decode.h>

#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {

absl::StatusOr<RgbImage> DecodeWebp(Bytes file) {
  int width = 0, height = 0;
  if (WebPGetInfo(file.data(), file.size(), &width, &height) == 0) {
    return ImageError("WebP", "the header makes no sense");
  }
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(width, height));
  if (WebPDecodeRGBInto(file.data(), file.size(), image.pixels.data(), image.pixels.size(),
                        width * 3) == nullptr) {
    return ImageError("WebP", "the pixels cannot be decoded");
  }
  return image;
}

}  // namespace halftone
