#include "core/base/cpu_budget.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace halftone {
namespace {

constexpr absl::string_view kCgroupRoot = "/sys/fs/cgroup";

std::optional<std::string> ReadSmallFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

template <typename T>
void KeepSmaller(std::optional<T>& best, std::optional<T> candidate) {
  if (candidate.has_value() && (!best.has_value() || *candidate < *best)) best = candidate;
}

// "/a/b" → {"/a/b", "/a", ""}.
void AddWithParents(absl::string_view prefix, absl::string_view path,
                    std::vector<std::string>& out) {
  std::string rest(absl::StripSuffix(path, "/"));
  while (true) {
    out.push_back(absl::StrCat(prefix, rest));
    if (rest.empty()) return;
    rest.resize(rest.rfind('/') == std::string::npos ? 0 : rest.rfind('/'));
  }
}

int AffinityCpus() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return 1;
  return CPU_COUNT(&mask);
}

std::vector<std::string> FoldersOf(const std::string& root, absl::string_view controller) {
  const std::optional<std::string> text = ReadSmallFile(absl::StrCat(root, "/proc/self/cgroup"));
  return CgroupFolders(text.value_or(""), controller);
}

}  // namespace

std::optional<double> ParseCpuMax(absl::string_view text) {
  const std::vector<absl::string_view> parts =
      absl::StrSplit(absl::StripAsciiWhitespace(text), ' ', absl::SkipEmpty());
  if (parts.size() != 2) return std::nullopt;
  return ParseCfsQuota(parts[0], parts[1]);
}

std::optional<double> ParseCfsQuota(absl::string_view quota_us, absl::string_view period_us) {
  int64_t quota = 0;
  int64_t period = 0;
  if (!absl::SimpleAtoi(quota_us, &quota) || !absl::SimpleAtoi(period_us, &period) || quota <= 0 ||
      period <= 0) {
    return std::nullopt;
  }
  return static_cast<double>(quota) / static_cast<double>(period);
}

std::optional<int64_t> ParseMemoryMax(absl::string_view text) {
  int64_t bytes = 0;
  if (!absl::SimpleAtoi(text, &bytes) || bytes <= 0) return std::nullopt;
  return bytes;
}

std::vector<std::string> CgroupFolders(absl::string_view proc_self_cgroup,
                                       absl::string_view controller) {
  std::vector<std::string> folders;
  for (absl::string_view line : absl::StrSplit(proc_self_cgroup, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    if (parts[1].empty()) {  // v2
      AddWithParents(kCgroupRoot, parts[2], folders);
      continue;
    }
    for (absl::string_view name : absl::StrSplit(parts[1], ',')) {
      if (name == controller) {
        AddWithParents(absl::StrCat(kCgroupRoot, "/", controller), parts[2], folders);
      }
    }
  }
  return folders;
}

int CoresFrom(std::optional<double> quota_cpus, int affinity_cpus) {
  const int affinity = std::max(affinity_cpus, 1);
  if (!quota_cpus.has_value() || *quota_cpus >= affinity) return affinity;
  return std::max(1, static_cast<int>(std::ceil(*quota_cpus)));
}

std::optional<double> ReadCpuQuota(const std::string& root) {
  std::optional<double> best;
  for (const std::string& folder : FoldersOf(root, "cpu")) {
    const std::string base = absl::StrCat(root, folder);
    if (const auto v2 = ReadSmallFile(absl::StrCat(base, "/cpu.max"))) {
      KeepSmaller(best, ParseCpuMax(*v2));
    }
    const auto quota = ReadSmallFile(absl::StrCat(base, "/cpu.cfs_quota_us"));
    const auto period = ReadSmallFile(absl::StrCat(base, "/cpu.cfs_period_us"));
    if (quota && period) KeepSmaller(best, ParseCfsQuota(*quota, *period));
  }
  return best;
}

int64_t ReadMemoryLimit(const std::string& root) {
  std::optional<int64_t> best;
  for (const std::string& folder : FoldersOf(root, "memory")) {
    for (absl::string_view file : {"memory.max", "memory.limit_in_bytes"}) {
      const auto text = ReadSmallFile(absl::StrCat(root, folder, "/", file));
      if (text) KeepSmaller(best, ParseMemoryMax(*text));
    }
  }
  // "MemTotal:  16314404 kB"
  const std::string meminfo = ReadSmallFile(absl::StrCat(root, "/proc/meminfo")).value_or("");
  for (absl::string_view line : absl::StrSplit(meminfo, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t kib = 0;
    if (parts.size() == 3 && parts[0] == "MemTotal:" && absl::SimpleAtoi(parts[1], &kib)) {
      KeepSmaller(best, std::optional<int64_t>(kib * 1024));
    }
  }
  return best.value_or(0);
}

int CpuBudget(const std::string& root) { return CoresFrom(ReadCpuQuota(root), AffinityCpus()); }

}  // namespace halftone
