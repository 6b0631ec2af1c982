#include <turbojpeg.h>

#include <memory>

#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {

absl::StatusOr<RgbImage> DecodeJpeg(Bytes file) {
  const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), tjDestroy);
  if (decoder == nullptr) return absl::ResourceExhaustedError("no memory for a JPEG decoder");
  const auto size = static_cast<unsigned long>(file.size());  // NOLINT: the library's type
  int width = 0, height = 0, subsampling = 0, colors = 0;
  if (tjDecompressHeader3(decoder.get(), file.data(), size, &width, &height, &subsampling,
                          &colors) != 0) {
    return ImageError("JPEG", tjGetErrorStr2(decoder.get()));
  }
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(width, height));
  // A progressive file can ask for any number of passes over the picture.
  if (tjDecompress2(decoder.get(), file.data(), size, image.pixels.data(), width, 0, height,
                    TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS) != 0) {
    return ImageError("JPEG", tjGetErrorStr2(decoder.get()));
  }
  return image;
}

}  // namespace halftone
