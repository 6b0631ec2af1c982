// Damaged image files: the decoders give a status, whatever the bytes.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/image/decode.h"
#include "tests/conformance/cases.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// The files that the cases of ImageDecoder decode. A serialized tensor holds its bytes unchanged
// behind a short header.
std::vector<std::vector<uint8_t>> ImageFiles() {
  std::vector<std::vector<uint8_t>> out;
  for (const auto& entry : fs::directory_iterator(GeneratedCases())) {
    const std::string name = entry.path().filename().string();
    if (name.find("image_decoder") == std::string::npos) continue;
    std::ifstream in(entry.path() / "test_data_set_0" / "input_0.pb", std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(in), {});
    for (size_t skip = 0; skip < 64 && skip < bytes.size(); ++skip) {
      const std::vector<uint8_t> file(bytes.begin() + skip, bytes.end());
      if (!DecodeImage(file, PixelFormat::kRgb).ok()) continue;
      out.push_back(file);
      break;
    }
  }
  return out;
}

TEST(DamagedImages, GiveAStatus) {
  if (!fs::exists(GeneratedCases() / "index.txt")) GTEST_SKIP() << "no generated cases";
  const auto files = ImageFiles();
  EXPECT_EQ(files.size(), 9);  // seven kinds of file, one of them three times
  int refused = 0;
  for (const std::vector<uint8_t>& file : files) {
    for (size_t cut = 0; cut < file.size(); cut += 1 + file.size() / 64) {
      refused += !DecodeImage(absl::MakeConstSpan(file).subspan(0, cut), PixelFormat::kGray).ok();
    }
    uint32_t random = 1;
    for (int i = 0; i < 300; ++i) {
      std::vector<uint8_t> damaged = file;
      for (int changes = 0; changes < 3; ++changes) {
        random = random * 1664525u + 1013904223u;
        // Headers are where it hurts.
        const size_t range = i % 2 == 0 ? std::min<size_t>(damaged.size(), 96) : damaged.size();
        damaged[(random >> 8) % range] = static_cast<uint8_t>(random);
      }
      refused += !DecodeImage(damaged, PixelFormat::kRgb).ok();
    }
  }
  EXPECT_GT(refused, 300);
}

}  // namespace
}  // namespace halftone
