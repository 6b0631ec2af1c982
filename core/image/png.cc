#include <png.h>

#include <vector>

#include "absl/cleanup/cleanup.h"
#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {

absl::StatusOr<RgbImage> DecodePng(Bytes file) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const absl::Cleanup free = [&] { png_image_free(&png); };
  if (png_image_begin_read_from_memory(&png, file.data(), file.size()) == 0) {
    return ImageError("PNG", png.message);
  }
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(png.width, png.height));
  png.format = PNG_FORMAT_RGBA;  // without alpha the library would blend with a background
  std::vector<uint8_t> rgba(image.pixels.size() / 3 * 4);
  if (png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) == 0) {
    return ImageError("PNG", png.message);
  }
  TakeRgb(rgba.data(), 4, image);
  return image;
}

}  // namespace halftone
