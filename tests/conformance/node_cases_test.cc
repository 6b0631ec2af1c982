// ONNX's backend node tests against manifest.txt.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "tests/conformance/cases.h"

namespace halftone {
namespace {

namespace fs = std::filesystem;

struct Verdict {
  std::string kind;    // pass, skip or xfail
  std::string reason;  // of skip and xfail
};

// Lines `name verdict [reason]`; # starts a comment.
std::map<std::string, Verdict> ReadManifest(const fs::path& path) {
  std::map<std::string, Verdict> out;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string name;
    Verdict v;
    words >> name >> v.kind;
    std::getline(words >> std::ws, v.reason);
    EXPECT_TRUE(v.kind == "pass" || v.kind == "skip" || v.kind == "xfail") << line;
    EXPECT_EQ(v.kind == "pass", v.reason.empty()) << line;
    EXPECT_TRUE(out.emplace(name, v).second) << name << " is listed twice";
  }
  return out;
}

struct GeneratedCase {
  std::string name;
  CaseTolerance tolerance;
  std::vector<std::string> kinds;  // what it needs that Halftone does not want to have
};

std::vector<GeneratedCase> ReadIndex(const fs::path& path) {
  std::vector<GeneratedCase> out;
  std::ifstream in(path);
  std::string kinds;
  for (GeneratedCase c; in >> c.name >> c.tolerance.relative >> c.tolerance.absolute >> kinds;) {
    c.kinds.clear();
    if (kinds != "-") c.kinds = absl::StrSplit(kinds, ',');
    out.push_back(c);
  }
  return out;
}

TEST(NodeCases, GiveWhatTheManifestSays) {
  const fs::path root = GeneratedCases();
  if (!fs::exists(root / "index.txt")) {
    GTEST_SKIP() << "no generated cases: run tests/conformance/generate.py OUT and set "
                    "HALFTONE_CONFORMANCE=OUT, or use ctest, which does both";
  }
  std::map<std::string, Verdict> manifest = ReadManifest("tests/conformance/manifest.txt");
  std::map<std::string, int> count;
  for (const GeneratedCase& c : ReadIndex(root / "index.txt")) {
    const auto line = manifest.find(c.name);
    if (line == manifest.end()) {
      ADD_FAILURE() << c.name << " is not in the manifest";
      continue;
    }
    const Verdict verdict = line->second;
    manifest.erase(line);
    ++count[verdict.kind];
    if (verdict.kind == "skip" || !c.kinds.empty()) {
      EXPECT_EQ(verdict.kind, "skip") << c.name;
      EXPECT_THAT(c.kinds, testing::Contains(verdict.reason)) << c.name;
      continue;
    }
    const std::string problem = RunCase(root / c.name, c.tolerance);
    if (verdict.kind == "pass") {
      EXPECT_EQ(problem, "") << c.name;
    } else {
      EXPECT_NE(problem, "") << c.name << " passes now: let the manifest say so";
    }
  }
  for (const auto& [name, verdict] : manifest) {
    ADD_FAILURE() << name << " is in the manifest, but ONNX has no such case";
  }
  EXPECT_GT(count["pass"], 1000);
  std::cout << count["pass"] << " cases pass, " << count["xfail"] << " are expected to fail, "
            << count["skip"] << " skipped\n";
}

}  // namespace
}  // namespace halftone
