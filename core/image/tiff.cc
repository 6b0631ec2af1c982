#include <tiffio.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {
namespace {

// What the library believes to be a file.
struct MemoryFile {
  Bytes bytes;
  uint64_t at = 0;
};

tmsize_t Read(thandle_t handle, void* to, tmsize_t count) {
  auto& f = *static_cast<MemoryFile*>(handle);
  if (f.at >= f.bytes.size() || count <= 0) return 0;
  const size_t n = std::min<size_t>(static_cast<size_t>(count), f.bytes.size() - f.at);
  std::memcpy(to, f.bytes.data() + f.at, n);
  f.at += n;
  return static_cast<tmsize_t>(n);
}

tmsize_t Write(thandle_t, void*, tmsize_t) { return 0; }

toff_t Seek(thandle_t handle, toff_t offset, int whence) {
  auto& f = *static_cast<MemoryFile*>(handle);
  if (whence == SEEK_SET) f.at = offset;
  if (whence == SEEK_CUR) f.at += offset;
  if (whence == SEEK_END) f.at = f.bytes.size() + offset;
  return f.at;
}

int Close(thandle_t) { return 0; }
toff_t Size(thandle_t handle) { return static_cast<MemoryFile*>(handle)->bytes.size(); }

// Messages would go to stderr.
int Silent(TIFF*, void*, const char*, const char*, va_list) { return 1; }

std::unique_ptr<TIFF, void (*)(TIFF*)> Open(MemoryFile& file) {
  constexpr tmsize_t kMaxAllocation = tmsize_t{1} << 29;
  const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(),
                                                                             TIFFOpenOptionsFree);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), kMaxAllocation);
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), Silent, nullptr);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), Silent, nullptr);
  return {TIFFClientOpenExt("image", "rm", &file, Read, Write, Seek, Close, Size, nullptr, nullptr,
                            options.get()),
          TIFFClose};
}

}  // namespace

absl::StatusOr<RgbImage> DecodeTiff(Bytes file) {
  MemoryFile memory{file};
  const auto tiff = Open(memory);
  if (tiff == nullptr) return ImageError("TIFF", "the header makes no sense");
  uint32_t width = 0, height = 0;
  TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width);
  TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height);
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(width, height));
  std::vector<uint32_t> raster(image.pixels.size() / 3);
  if (TIFFReadRGBAImageOriented(tiff.get(), width, height, raster.data(), ORIENTATION_TOPLEFT,
                                /*stopOnError=*/1) == 0) {
    return ImageError("TIFF", "the pixels cannot be decoded");
  }
  for (size_t i = 0; i < raster.size(); ++i) {
    image.pixels[i * 3] = static_cast<uint8_t>(TIFFGetR(raster[i]));
    image.pixels[i * 3 + 1] = static_cast<uint8_t>(TIFFGetG(raster[i]));
    image.pixels[i * 3 + 2] = static_cast<uint8_t>(TIFFGetB(raster[i]));
  }
  return image;
}

}  // namespace halftone
