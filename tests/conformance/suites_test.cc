// Suites of cases beside the node tests: exported models and operators. They come in an archive
// beside the optional models and are not part of the project.
#include <gmock/gmock.h>

#include <algorithm>
#include <iostream>
#include <set>
#include <string>

#include "tests/conformance/cases.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

// Cases with one draw of random numbers as the expected result.
bool IsRandomCase(const fs::path& folder) { return folder.filename() == "dropout__dropout"; }

class Suite : public testing::TestWithParam<std::string> {};

TEST_P(Suite, Passes) {
  const fs::path root = GeneratedCases() / "suites" / GetParam();
  if (GeneratedCases().empty() || !fs::is_directory(root)) {
    GTEST_SKIP() << "SKIPPED: no onnx-node-tests.tar.zst beside $HALFTONE_MODELS";
  }
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) folders.insert(entry.path());
  ASSERT_FALSE(folders.empty());
  for (const fs::path& folder : folders) {
    // Sums of many f32 in another order.
    const std::string problem = RunCase(folder, {.relative = 1e-3, .absolute = 1e-5});
    EXPECT_EQ(problem.empty(), !IsRandomCase(folder)) << folder.filename() << ": " << problem;
  }
  std::cout << folders.size() << " cases\n";
}

INSTANTIATE_TEST_SUITE_P(All, Suite,
                         testing::Values("pytorch-converted", "pytorch-operator", "simple",
                                         "burn-onnx"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace halftone
