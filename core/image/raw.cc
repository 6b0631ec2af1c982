// Files without compression: BMP, PNM.
#include <cctype>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {
namespace {

uint32_t LittleEndian(const uint8_t* p, int bytes) {
  uint32_t v = 0;
  for (int i = bytes; i-- > 0;) v = v << 8 | p[i];
  return v;
}

// A number of a PNM header; spaces and comments before it are skipped. -1: there is none.
int64_t NextNumber(Bytes file, size_t& at) {
  while (at < file.size() && (file[at] == '#' || std::isspace(file[at]) != 0)) {
    if (file[at] == '#') {
      while (at < file.size() && file[at] != '\n') ++at;
    } else {
      ++at;
    }
  }
  int64_t value = -1;
  for (; at < file.size() && std::isdigit(file[at]) != 0; ++at) {
    value = (value < 0 ? 0 : value) * 10 + (file[at] - '0');
    if (value > (int64_t{1} << 31)) return -1;
  }
  return value;
}

}  // namespace

absl::StatusOr<RgbImage> DecodeBmp(Bytes file) {
  constexpr size_t kHeader = 54;
  if (file.size() < kHeader) return ImageError("BMP", "the header is cut off");
  const uint64_t offset = LittleEndian(&file[10], 4), header = LittleEndian(&file[14], 4);
  const int64_t width = static_cast<int32_t>(LittleEndian(&file[18], 4));
  const int64_t signed_height = static_cast<int32_t>(LittleEndian(&file[22], 4));
  const uint32_t bits = LittleEndian(&file[28], 2), compression = LittleEndian(&file[30], 4);
  if ((bits != 8 && bits != 24 && bits != 32) || compression != 0 || header < 40) {
    return ImageError("BMP", absl::StrCat("got ", bits, " bits and compression ", compression,
                                          ", want 8, 24 or 32 and none"));
  }
  const int64_t height = std::abs(signed_height);
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(width, height));
  const uint64_t stride = (static_cast<uint64_t>(width) * bits + 31) / 32 * 4;
  const uint64_t palette = 14 + header;  // four bytes for each of 256 colours
  if (offset > file.size() || stride * height > file.size() - offset ||
      (bits == 8 && palette + 1024 > file.size())) {
    return ImageError("BMP", "the pixels are cut off");
  }
  uint8_t* to = image.pixels.data();
  for (int64_t y = 0; y < height; ++y) {
    const int64_t line = signed_height > 0 ? height - 1 - y : y;  // mostly from the bottom
    const uint8_t* row = &file[offset] + line * stride;
    for (int64_t x = 0; x < width; ++x, to += 3) {
      const uint8_t* bgr = bits == 8 ? &file[palette] + row[x] * 4 : row + x * bits / 8;
      to[0] = bgr[2];
      to[1] = bgr[1];
      to[2] = bgr[0];
    }
  }
  return image;
}

absl::StatusOr<RgbImage> DecodePnm(Bytes file) {
  size_t at = 2;
  const int64_t width = NextNumber(file, at), height = NextNumber(file, at);
  const int64_t top = NextNumber(file, at);
  if (top != 255)
    return ImageError("PNM", absl::StrCat("the largest value is ", top, ", want 255"));
  ++at;  // one space ends the header
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(width, height));
  const bool gray = file[1] == '5';
  const size_t want = gray ? image.pixels.size() / 3 : image.pixels.size();
  if (at > file.size() || want > file.size() - at) {
    return ImageError("PNM", "the pixels are cut off");
  }
  for (size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = file[at + (gray ? i / 3 : i)];
  }
  return image;
}

}  // namespace halftone
