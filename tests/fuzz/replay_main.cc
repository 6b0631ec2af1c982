// Runs a fuzz target once over files, or over all files of folders: what fuzzing found stays fixed.
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

namespace {

namespace fs = std::filesystem;

// Twice what the fuzzer allows: tests run beside each other.
constexpr double kMaxSeconds = 10;
constexpr long kMaxResidentKib = 2 << 20;

bool RunFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  std::cout << path.filename().string() << std::endl;  // before it can crash
  const auto start = std::chrono::steady_clock::now();
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const bool good = took.count() < kMaxSeconds && usage.ru_maxrss < kMaxResidentKib;
  if (!good) {
    std::cout << "  took " << took.count() << " s, limit " << kMaxSeconds << "; resident "
              << usage.ru_maxrss << " KiB, limit " << kMaxResidentKib << std::endl;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  bool good = true;
  for (int i = 1; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) {
      good &= RunFile(argv[i]);
      continue;
    }
    for (const auto& entry : fs::directory_iterator(argv[i])) good &= RunFile(entry.path());
  }
  return good ? 0 : 1;
}
