#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/base/status_macros.h"
#include "core/image/codecs.h"

namespace halftone {
namespace {

// What the library believes to be a file.
struct MemoryFile {
  Bytes bytes;
  size_t at = 0;
};

OPJ_SIZE_T Read(void* to, OPJ_SIZE_T count, void* handle) {
  auto& f = *static_cast<MemoryFile*>(handle);
  if (f.at >= f.bytes.size()) return static_cast<OPJ_SIZE_T>(-1);
  const size_t n = std::min<size_t>(count, f.bytes.size() - f.at);
  std::memcpy(to, f.bytes.data() + f.at, n);
  f.at += n;
  return n;
}

OPJ_OFF_T Skip(OPJ_OFF_T count, void* handle) {
  auto& f = *static_cast<MemoryFile*>(handle);
  if (count < 0) return -1;
  const size_t n = std::min<size_t>(static_cast<size_t>(count), f.bytes.size() - f.at);
  f.at += n;
  return static_cast<OPJ_OFF_T>(n);
}

OPJ_BOOL Seek(OPJ_OFF_T to, void* handle) {
  auto& f = *static_cast<MemoryFile*>(handle);
  if (to < 0 || static_cast<size_t>(to) > f.bytes.size()) return OPJ_FALSE;
  f.at = static_cast<size_t>(to);
  return OPJ_TRUE;
}

using Stream = std::unique_ptr<opj_stream_t, void (*)(opj_stream_t*)>;
using Codec = std::unique_ptr<opj_codec_t, void (*)(opj_codec_t*)>;
using Image = std::unique_ptr<opj_image_t, void (*)(opj_image_t*)>;

Stream OpenStream(MemoryFile& file) {
  Stream stream(opj_stream_default_create(OPJ_TRUE), opj_stream_destroy);
  if (stream == nullptr) return stream;
  opj_stream_set_read_function(stream.get(), Read);
  opj_stream_set_skip_function(stream.get(), Skip);
  opj_stream_set_seek_function(stream.get(), Seek);
  opj_stream_set_user_data(stream.get(), &file, nullptr);
  opj_stream_set_user_data_length(stream.get(), file.bytes.size());
  return stream;
}

// Gray, or red, green and blue, each as large as the image.
bool IsPlain(const opj_image_t& image) {
  if (image.numcomps < 1 || image.numcomps > 4 || image.color_space == OPJ_CLRSPC_SYCC ||
      image.color_space == OPJ_CLRSPC_EYCC || image.color_space == OPJ_CLRSPC_CMYK) {
    return false;
  }
  for (OPJ_UINT32 i = 0; i < image.numcomps; ++i) {
    const opj_image_comp_t& c = image.comps[i];
    if (c.dx != 1 || c.dy != 1 || c.prec < 1 || c.prec > 16) return false;
  }
  return true;
}

uint8_t Sample(const opj_image_comp_t& c, size_t i) {
  const int64_t value = int64_t{c.data[i]} + (c.sgnd != 0 ? int64_t{1} << (c.prec - 1) : 0);
  const int64_t top = (int64_t{1} << c.prec) - 1;
  return static_cast<uint8_t>(std::clamp<int64_t>(value, 0, top) * 255 / top);
}

}  // namespace

absl::StatusOr<RgbImage> DecodeJpeg2000(Bytes file) {
  MemoryFile memory{file};
  const Stream stream = OpenStream(memory);
  const bool boxed = file[0] == 0;  // the codestream inside of boxes, or alone
  const Codec codec(opj_create_decompress(boxed ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K),
                    opj_destroy_codec);
  opj_dparameters_t parameters;
  opj_set_default_decoder_parameters(&parameters);
  opj_image_t* raw = nullptr;
  if (stream == nullptr || codec == nullptr || !opj_setup_decoder(codec.get(), &parameters) ||
      !opj_read_header(stream.get(), codec.get(), &raw)) {
    return ImageError("JPEG 2000", "the header makes no sense");
  }
  const Image decoded(raw, opj_image_destroy);
  if (decoded->x1 < decoded->x0 || decoded->y1 < decoded->y0 || !IsPlain(*decoded)) {
    return ImageError("JPEG 2000", "want 8 to 16 bit gray or RGB without subsampling");
  }
  HT_ASSIGN_OR_RETURN(RgbImage image, MakeImage(int64_t{decoded->x1} - decoded->x0,
                                                int64_t{decoded->y1} - decoded->y0));
  if (!opj_decode(codec.get(), stream.get(), decoded.get()) ||
      !opj_end_decompress(codec.get(), stream.get()) || !IsPlain(*decoded)) {
    return ImageError("JPEG 2000", "the pixels cannot be decoded");
  }
  for (int channel = 0; channel < 3; ++channel) {
    const opj_image_comp_t& c = decoded->comps[decoded->numcomps < 3 ? 0 : channel];
    if (c.data == nullptr || c.w != image.width || c.h != image.height) {
      return ImageError("JPEG 2000", "a channel is missing");
    }
    for (size_t i = 0; i < image.pixels.size() / 3; ++i) {
      image.pixels[i * 3 + channel] = Sample(c, i);
    }
  }
  return image;
}

}  // namespace halftone
