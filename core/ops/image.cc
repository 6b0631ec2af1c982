// Images from files: ImageDecoder.
#include <array>
#include <optional>

#include "core/base/status_macros.h"
#include "core/image/decode.h"
#include "core/ops/eval_util.h"
#include "core/ops/families.h"
#include "core/ops/infer_util.h"

namespace halftone {
namespace {

std::optional<PixelFormat> FormatOf(const Attributes& a) {
  const std::string name = a.String("pixel_format", "RGB");
  if (name == "RGB") return PixelFormat::kRgb;
  if (name == "BGR") return PixelFormat::kBgr;
  if (name == "Grayscale") return PixelFormat::kGray;
  return std::nullopt;
}

absl::Status InferImageDecoder(InferContext& c) {
  HT_RETURN_IF_ERROR(CheckRank(c, 0, 1, 1));
  const std::optional<PixelFormat> format = FormatOf(c.attributes());
  if (!format.has_value()) return c.Error("pixel_format wants RGB, BGR or Grayscale");
  c.set_output(0, DataType::kU8, Dims{Dim(), Dim(), Dim(*format == PixelFormat::kGray ? 1 : 3)});
  return absl::OkStatus();
}

absl::Status EvalImageDecoder(EvalContext& c) {
  absl::StatusOr<Tensor> pixels =
      DecodeImage(c.input(0).data<uint8_t>(), *FormatOf(c.attributes()));
  if (!pixels.ok()) return Annotate(pixels.status(), Describe(c.node()));
  c.set_output(0, *std::move(pixels));
  return absl::OkStatus();
}

constexpr std::array kRows = {OpDef{.name = "ImageDecoder",
                                    .since_opset = 20,
                                    .infer = InferImageDecoder,
                                    .eval = EvalImageDecoder,
                                    .types = Types(DataType::kU8),
                                    .tolerance = kExact}};

}  // namespace

absl::Span<const OpDef> ImageOps() { return kRows; }

}  // namespace halftone
