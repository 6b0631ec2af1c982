// What this process may use of the machine: cores and memory, from the cgroup limits and the
// affinity mask. Never the number of CPUs of the host.
#ifndef HALFTONE_CORE_BASE_CPU_BUDGET_H_
#define HALFTONE_CORE_BASE_CPU_BUDGET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace halftone {

// --- pure parts ---

// Content of cgroup v2's cpu.max ("150000 100000", "max 100000") as CPUs; nullopt: no limit, or not
// understood.
std::optional<double> ParseCpuMax(absl::string_view text);
// Contents of cgroup v1's cpu.cfs_quota_us and cpu.cfs_period_us. A quota of -1 is no limit.
std::optional<double> ParseCfsQuota(absl::string_view quota_us, absl::string_view period_us);
// Content of memory.max or memory.limit_in_bytes as bytes; v1 writes a huge number for "no limit".
std::optional<int64_t> ParseMemoryMax(absl::string_view text);
// The process's cgroup folders for a controller below /sys/fs/cgroup, innermost first, from the
// content of /proc/self/cgroup. The limit that counts is the smallest of all of them.
std::vector<std::string> CgroupFolders(absl::string_view proc_self_cgroup,
                                       absl::string_view controller);
// Whole cores: the quota rounded up, at most the CPUs of the affinity mask, at least 1.
int CoresFrom(std::optional<double> quota_cpus, int affinity_cpus);

// --- readers; `root` is put in front of /proc and /sys, for tests ---

std::optional<double> ReadCpuQuota(const std::string& root = "");
// The smallest of the cgroup limits and the physical memory; 0 when nothing can be read.
int64_t ReadMemoryLimit(const std::string& root = "");
// Cores for the calling process.
int CpuBudget(const std::string& root = "");

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_CPU_BUDGET_H_
