// Any bytes as an ONNX file: import, look at the graph, export, import again.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/onnx/export.h"
#include "core/onnx/import.h"
#include "core/ops/registry.h"
#include "tests/fuzz/fuzz_target.h"

namespace halftone {
namespace {

// A folder with external data, below one that no model may read.
class ModelFolder {
 public:
  ModelFolder() : root_(absl::StrCat("/dev/shm/halftone_fuzz.", getpid())) {
    std::filesystem::create_directories(root_ + "/model/sub");
    Write("/secret", std::string(64, 's'));
    Write("/model/w", std::string(64, 'w'));
    Write("/model/sub/w", std::string(16, 'v'));
    Write("/model/empty", "");
    std::filesystem::create_symlink("../secret", root_ + "/model/out");
    std::atexit([] { std::filesystem::remove_all(Get().root_); });
  }
  static ModelFolder& Get() {
    static auto* folder = new ModelFolder;
    return *folder;
  }
  absl::StatusOr<Graph> Import(absl::string_view bytes) {
    Write("/model/m.onnx", bytes);
    return ImportOnnxFile(root_ + "/model/m.onnx");
  }

 private:
  void Write(const std::string& name, absl::string_view bytes) {
    std::ofstream(root_ + name, std::ios::binary).write(bytes.data(), bytes.size());
  }
  const std::string root_;
};

void CheckNoSecret(const Graph& graph) {
  for (const Value* v : graph.values()) {
    if (!v->is_constant() || v->constant().buffer() == nullptr) continue;
    if (!v->constant().buffer()->is_file_mapping() || v->constant().num_bytes() == 0) continue;
    CHECK(v->constant().bytes()[0] != std::byte{'s'}) << v->name() << " is from outside";
  }
}

void TryModel(absl::string_view bytes) {
  const bool external = bytes.find("location") != absl::string_view::npos;
  const absl::StatusOr<Graph> graph =
      external ? ModelFolder::Get().Import(bytes)
               : ImportOnnx(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()),
                                                bytes.size()));
  CheckNotInternal("import", graph.status());
  if (!graph.ok()) return;
  CheckNoSecret(*graph);
  CHECK_OK(graph->Verify());
  CHECK(!graph->Dump().empty());
  CheckNotInternal("signature", SignatureOf(*graph).status());
  const absl::StatusOr<std::string> exported = ExportOnnxInline(*graph);
  CheckNotInternal("export", exported.status());
  if (!exported.ok()) return;
  const absl::Status again =
      ImportOnnx(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(exported->data()),
                                     exported->size()))
          .status();
  CHECK(again.ok() || absl::IsResourceExhausted(again)) << again << "\n" << graph->Dump();
}

}  // namespace

std::vector<std::string> FuzzWords() {
  std::vector<std::string> words = {"",
                                    "ai.onnx",
                                    "com.microsoft",
                                    "location",
                                    "offset",
                                    "length",
                                    "w",
                                    "sub/w",
                                    "empty",
                                    "out",
                                    "../secret",
                                    "sub/../../secret",
                                    "0",
                                    "8",
                                    "64",
                                    "-1",
                                    "9223372036854775807"};
  for (const OpDef& row : AllOps()) words.emplace_back(row.name);
  return words;
}

}  // namespace halftone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  halftone::TryModel({reinterpret_cast<const char*>(data), size});
  return 0;
}
