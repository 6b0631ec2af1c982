// The process_* set, from /proc/self.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "server/metrics.h"

namespace halftone {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double Number(absl::string_view text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) ? value : 0;
}

// Seconds since the epoch at which the machine started.
double BootTime() {
  for (absl::string_view line : absl::StrSplit(ReadAll("/proc/stat"), '\n')) {
    if (line.substr(0, 6) == "btime ") return Number(line.substr(6));
  }
  return 0;
}

double MaxOpenFiles() {
  for (absl::string_view line : absl::StrSplit(ReadAll("/proc/self/limits"), '\n')) {
    if (line.substr(0, 14) != "Max open files") continue;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line.substr(14), ' ', absl::SkipEmpty());
    if (!words.empty()) return Number(words[0]);
  }
  return 0;
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics() {
  // Fields after the command, which is in parentheses and may contain anything: proc(5), field 3
  // on.
  const std::string stat_text = ReadAll("/proc/self/stat");
  const size_t command_end = stat_text.rfind(')');
  if (command_end == std::string::npos) return {};
  const std::vector<absl::string_view> stat =
      absl::StrSplit(absl::string_view(stat_text).substr(command_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kUtime = 11, kStime = 12, kThreads = 17, kStart = 19, kVirtual = 20, kRss = 21;
  if (stat.size() <= kRss) return {};
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  std::error_code ignored;
  const auto open_files =
      std::distance(std::filesystem::directory_iterator("/proc/self/fd", ignored),
                    std::filesystem::directory_iterator());

  struct Row {
    const char* name;
    const char* help;
    double value;
  };
  const Row rows[] = {
      {"process_resident_memory_bytes", "Resident memory size.", Number(stat[kRss]) * page},
      {"process_virtual_memory_bytes", "Virtual memory size.", Number(stat[kVirtual])},
      {"process_start_time_seconds", "Start time since the epoch.",
       BootTime() + Number(stat[kStart]) / ticks},
      {"process_open_fds", "Open file descriptors.", static_cast<double>(open_files)},
      {"process_max_fds", "Limit of open file descriptors.", MaxOpenFiles()},
      {"process_threads", "Threads.", Number(stat[kThreads])},
  };
  std::vector<prometheus::MetricFamily> families;
  GaugeFamily cpu("process_cpu_seconds_total", "User and system CPU time.",
                  prometheus::MetricType::Counter);
  cpu.Add((Number(stat[kUtime]) + Number(stat[kStime])) / ticks);
  families.push_back(std::move(cpu).Take());
  for (const Row& row : rows) {
    GaugeFamily family(row.name, row.help);
    family.Add(row.value);
    families.push_back(std::move(family).Take());
  }
  return families;
}

}  // namespace halftone
