#include "core/image/decode.h"

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {
namespace {

// How a kind of file is told apart: these bytes at this place.
struct Kind {
  size_t offset;
  absl::string_view magic;
  absl::StatusOr<RgbImage> (*decode)(Bytes);
};

constexpr std::array kKinds = {
    Kind{0, absl::string_view("\xff\xd8\xff", 3), DecodeJpeg},
    Kind{0, absl::string_view("\x89PNG", 4), DecodePng},
    Kind{8, absl::string_view("WEBP", 4), DecodeWebp},
    Kind{4, absl::string_view("jP  ", 4), DecodeJpeg2000},
    Kind{0, absl::string_view("\xff\x4f\xff\x51", 4), DecodeJpeg2000},
    Kind{0, absl::string_view("II*\0", 4), DecodeTiff},
    Kind{0, absl::string_view("MM\0*", 4), DecodeTiff},
    Kind{0, absl::string_view("BM", 2), DecodeBmp},
    Kind{0, absl::string_view("P5", 2), DecodePnm},
    Kind{0, absl::string_view("P6", 2), DecodePnm},
};

absl::StatusOr<RgbImage> Decode(Bytes file) {
  for (const Kind& kind : kKinds) {
    if (file.size() < kind.offset + kind.magic.size()) continue;
    if (std::memcmp(file.data() + kind.offset, kind.magic.data(), kind.magic.size()) == 0) {
      return kind.decode(file);
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the ", file.size(), " bytes are no JPEG, JPEG 2000, PNG, TIFF, WebP, BMP or PNM file"));
}

// ITU-R 601 in 16-bit fixed point, as Pillow computes it.
uint8_t Luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

}  // namespace

absl::StatusOr<RgbImage> MakeImage(int64_t width, int64_t height) {
  if (width < 1 || height < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the image has ", width, " x ", height, " pixels"));
  }
  if (width > kMaxImagePixels || height > kMaxImagePixels / width) {
    return absl::ResourceExhaustedError(absl::StrCat("the image has ", width, " x ", height,
                                                     " pixels, the limit is ", kMaxImagePixels));
  }
  RgbImage image{.width = width, .height = height};
  image.pixels.resize(static_cast<size_t>(width * height * 3));
  return image;
}

absl::Status ImageError(absl::string_view kind, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("damaged ", kind, " file: ", what));
}

void TakeRgb(const uint8_t* from, int channels, RgbImage& image) {
  for (size_t i = 0; i < image.pixels.size(); i += 3, from += channels) {
    std::memcpy(&image.pixels[i], from, 3);
  }
}

absl::StatusOr<Tensor> DecodeImage(absl::Span<const uint8_t> file, PixelFormat format) {
  HT_ASSIGN_OR_RETURN(const RgbImage image, Decode(file));
  const int64_t channels = format == PixelFormat::kGray ? 1 : 3;
  HT_ASSIGN_OR_RETURN(Tensor out,
                      Tensor::Create(DataType::kU8, {image.height, image.width, channels}));
  uint8_t* to = out.mutable_data<uint8_t>().data();
  for (size_t i = 0; i < image.pixels.size(); i += 3, to += channels) {
    const uint8_t* rgb = &image.pixels[i];
    if (format == PixelFormat::kGray) {
      *to = Luma(rgb);
    } else {
      std::memcpy(to, rgb, 3);
      if (format == PixelFormat::kBgr) std::swap(to[0], to[2]);
    }
  }
  return out;
}

}  // namespace halftone
