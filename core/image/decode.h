// Image files → pixels: JPEG, JPEG 2000, PNG, TIFF, WebP, BMP and PNM.
#ifndef HALFTONE_CORE_IMAGE_DECODE_H_
#define HALFTONE_CORE_IMAGE_DECODE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/tensor.h"

namespace halftone {

// Enough for 8K video. The headers of files are read first, and a larger image goes no further.
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 25;

enum class PixelFormat : uint8_t { kRgb, kBgr, kGray };

// u8 pixels [height, width, channels], one channel for kGray and else three; transparency is
// dropped. INVALID_ARGUMENT for bytes that are no such file or a damaged one, RESOURCE_EXHAUSTED
// beyond kMaxImagePixels. Any thread.
absl::StatusOr<Tensor> DecodeImage(absl::Span<const uint8_t> file, PixelFormat format);

}  // namespace halftone

#endif  // HALFTONE_CORE_IMAGE_DECODE_H_
