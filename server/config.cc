#include "server/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <variant>

#include "absl/functional/overload.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

struct Text {
  std::string ServerConfig::* field;
};
struct Integer {
  int ServerConfig::* field;
  int min;
  int max;
};
struct Bytes {
  int64_t ServerConfig::* field;
  int64_t min;
};
struct Seconds {
  absl::Duration ServerConfig::* field;
};
struct Switch {
  bool ServerConfig::* field;
};

struct Setting {
  absl::string_view name;
  std::variant<Text, Integer, Bytes, Seconds, Switch> kind;
  absl::string_view help;
};

using C = ServerConfig;
constexpr int kMaxPort = 65535;
constexpr int kMaxThreads = 4096;

const Setting kSettings[] = {
    {"host", Text{&C::host}, "Address that gRPC listens on."},
    {"port", Integer{&C::port, 0, kMaxPort}, "Port of gRPC; 0 takes a free one."},
    {"metrics_host", Text{&C::metrics_host}, "Address that the metrics listen on."},
    {"metrics_port", Integer{&C::metrics_port, 0, kMaxPort},
     "Port of the Prometheus endpoint /metrics; 0 takes a free one."},
    {"ports_file", Text{&C::ports_file},
     "File that receives the ports as JSON once the server listens; for scripts with port 0."},
    {"store", Text{&C::store}, "Folder of models and variants; made if it does not exist."},
    {"workers", Integer{&C::workers, 0, kMaxThreads},
     "Requests that are computed at the same time; 0: as many as the core budget allows, which is "
     "the cgroup's CPU quota within the affinity mask."},
    {"threads_per_worker", Integer{&C::threads_per_worker, 1, kMaxThreads},
     "Threads that compute one request. More means lower latency and less throughput."},
    {"wide_threads", Integer{&C::wide_threads, 0, kMaxThreads},
     "Threads that compute a request that is alone, where this is measured to be at least 1.2 "
     "times "
     "as fast; 0: as many as all workers have together, 1: those of its worker."},
    {"build_threads", Integer{&C::build_threads, 1, kMaxThreads},
     "Threads of the low-priority lane that imports and quantizes."},
    {"max_queued_requests", Integer{&C::max_queued_requests, 1, 1'000'000},
     "Requests that may wait for a worker; more are refused with RESOURCE_EXHAUSTED."},
    {"max_contexts_per_worker", Integer{&C::max_contexts_per_worker, 1, 10'000},
     "Variants whose scratch memory a worker keeps; the least recently used one goes first."},
    {"max_stream_inflight", Integer{&C::max_stream_inflight, 1, 10'000},
     "Requests of one InferStream that are worked on before the next one is read."},
    {"resident_budget_bytes", Bytes{&C::resident_budget_bytes, 0},
     "Memory for loaded variants; the least recently used ones leave when it is full. 0: half of "
     "the memory that this process may use."},
    {"disk_budget_bytes", Bytes{&C::disk_budget_bytes, 1}, "Size limit of the store's folder."},
    {"max_upload_bytes", Bytes{&C::max_upload_bytes, 1}, "Largest model, all files together."},
    {"max_calibration_bytes", Bytes{&C::max_calibration_bytes, 1}, "Largest calibration set."},
    {"max_live_sample_bytes", Bytes{&C::max_live_sample_bytes, 0},
     "Samples of live requests of all models together; none are kept unless a client asks for it."},
    {"max_message_bytes", Bytes{&C::max_message_bytes, 1 << 20},
     "Largest message that is received: bounds the inputs of one request."},
    {"max_inflight_bytes", Bytes{&C::max_inflight_bytes, 1 << 20},
     "Inputs of all requests that wait or run, together; more are refused with "
     "RESOURCE_EXHAUSTED."},
    {"drain_delay", Seconds{&C::drain_delay},
     "After SIGTERM the server says NOT_SERVING and goes on serving for this long."},
    {"shutdown_timeout", Seconds{&C::shutdown_timeout},
     "After the drain delay, calls that run may take this long to finish."},
    {"max_connection_age", Seconds{&C::max_connection_age},
     "Connections are closed gracefully at this age, so that clients rebalance; 0: never."},
    {"reflection", Switch{&C::reflection}, "Offer gRPC server reflection."},
};

const Setting* Find(absl::string_view name) {
  for (const Setting& setting : kSettings) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({substituted, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

absl::Status UnknownSetting(absl::string_view name) {
  name = name.substr(0, 100);
  const Setting* nearest = std::min_element(
      std::begin(kSettings), std::end(kSettings), [&](const Setting& a, const Setting& b) {
        return EditDistance(a.name, name) < EditDistance(b.name, name);
      });
  return absl::InvalidArgumentError(
      absl::StrCat("there is no setting '", name, "'; the nearest one is '", nearest->name, "'"));
}

std::optional<int64_t> ParseBytes(absl::string_view text) {
  struct Unit {
    absl::string_view suffix;
    int64_t bytes;
  };
  static constexpr Unit kUnits[] = {{"KiB", int64_t{1} << 10},
                                    {"MiB", int64_t{1} << 20},
                                    {"GiB", int64_t{1} << 30},
                                    {"TiB", int64_t{1} << 40}};
  int64_t factor = 1;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&text, unit.suffix)) factor = unit.bytes;
  }
  int64_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || __builtin_mul_overflow(value, factor, &value)) {
    return std::nullopt;
  }
  return value;
}

absl::Status Bad(const Setting& setting, absl::string_view value, absl::string_view want) {
  return absl::InvalidArgumentError(
      absl::StrCat("setting '", setting.name, "': got '", value.substr(0, 100), "', want ", want));
}

absl::Status Set(const Setting& setting, absl::string_view value, ServerConfig& config) {
  return std::visit(
      absl::Overload{
          [&](const Text& k) {
            config.*k.field = std::string(value);
            return absl::OkStatus();
          },
          [&](const Integer& k) {
            int number = 0;
            if (!absl::SimpleAtoi(value, &number) || number < k.min || number > k.max) {
              return Bad(setting, value,
                         absl::StrCat("a whole number from ", k.min, " to ", k.max));
            }
            config.*k.field = number;
            return absl::OkStatus();
          },
          [&](const Bytes& k) {
            const std::optional<int64_t> bytes = ParseBytes(value);
            if (!bytes || *bytes < k.min) {
              return Bad(setting, value,
                         absl::StrCat("bytes, at least ", k.min, ", such as 536870912 or 512MiB"));
            }
            config.*k.field = *bytes;
            return absl::OkStatus();
          },
          [&](const Seconds& k) {
            absl::Duration duration;
            if (!absl::ParseDuration(value, &duration) || duration < absl::ZeroDuration()) {
              return Bad(setting, value, "a duration such as 500ms, 5s or 1m30s");
            }
            config.*k.field = duration;
            return absl::OkStatus();
          },
          [&](const Switch& k) {
            if (value != "true" && value != "false") return Bad(setting, value, "true or false");
            config.*k.field = value == "true";
            return absl::OkStatus();
          },
      },
      setting.kind);
}

std::string DefaultText(const Setting& setting) {
  static const ServerConfig* const defaults = new ServerConfig;
  return std::visit(
      absl::Overload{
          [](const Text& k) { return absl::StrCat("\"", defaults->*k.field, "\""); },
          [](const Integer& k) { return absl::StrCat(defaults->*k.field); },
          [](const Bytes& k) {
            const int64_t bytes = defaults->*k.field;
            return bytes > 0 && bytes % (1 << 20) == 0 ? absl::StrCat(bytes >> 20, "MiB")
                                                       : absl::StrCat(bytes);
          },
          [](const Seconds& k) { return absl::FormatDuration(defaults->*k.field); },
          [](const Switch& k) { return std::string(defaults->*k.field ? "true" : "false"); },
      },
      setting.kind);
}

absl::StatusOr<std::string> ReadConfigFile(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("--config: cannot read '", path, "'"));
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

struct Flag {
  std::string name;  // with '_'
  std::string value;
};

// "--a-b=c", "--a_b c", "--reflection", "--noreflection".
absl::StatusOr<std::vector<Flag>> SplitFlags(absl::Span<const std::string> args) {
  static const std::set<std::string> kAlone = {"help", "version"};
  std::vector<Flag> flags;
  for (size_t i = 0; i < args.size(); ++i) {
    absl::string_view arg = args[i];
    if (!absl::ConsumePrefix(&arg, "--")) {
      return absl::InvalidArgumentError(
          absl::StrCat("got argument '", arg.substr(0, 100), "', want flags such as --port=8001"));
    }
    const size_t equals = arg.find('=');
    std::string name = absl::StrReplaceAll(arg.substr(0, equals), {{"-", "_"}});
    if (equals != absl::string_view::npos) {
      flags.push_back({std::move(name), std::string(arg.substr(equals + 1))});
      continue;
    }
    const absl::string_view positive = absl::StripPrefix(name, "no");
    const Setting* setting = Find(name);
    const Setting* negated = positive.size() < name.size() ? Find(positive) : nullptr;
    if (kAlone.contains(name) ||
        (setting != nullptr && std::holds_alternative<Switch>(setting->kind))) {
      flags.push_back({std::move(name), "true"});
    } else if (negated != nullptr && std::holds_alternative<Switch>(negated->kind)) {
      flags.push_back({std::string(positive), "false"});
    } else if (setting == nullptr && name != "config") {
      return UnknownSetting(name);
    } else if (i + 1 == args.size()) {
      return absl::InvalidArgumentError(absl::StrCat("flag --", name, ": want a value"));
    } else {
      flags.push_back({std::move(name), args[++i]});
    }
  }
  return flags;
}

absl::Status ApplyNode(const YAML::Node& node, ServerConfig& config) {
  if (node.IsNull()) return absl::OkStatus();
  if (!node.IsMap()) {
    return absl::InvalidArgumentError("the settings file: want a map of settings at the top");
  }
  for (const auto& entry : node) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const Setting* setting = Find(name);
    if (setting == nullptr) return UnknownSetting(name);
    if (!entry.second.IsScalar()) return Bad(*setting, "a list or map", "one value");
    HT_RETURN_IF_ERROR(Set(*setting, entry.second.Scalar(), config));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ApplyConfigText(absl::string_view yaml_or_json, ServerConfig& config) {
  ServerConfig changed = config;
  try {
    HT_RETURN_IF_ERROR(ApplyNode(YAML::Load(std::string(yaml_or_json)), changed));
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(absl::StrCat("the settings file: ", e.what()));
  }
  config = std::move(changed);
  return absl::OkStatus();
}

absl::StatusOr<CommandLine> ParseCommandLine(absl::Span<const std::string> args) {
  HT_ASSIGN_OR_RETURN(const std::vector<Flag> flags, SplitFlags(args));
  CommandLine line;
  for (const Flag& flag : flags) {
    if (flag.name != "config") continue;
    HT_ASSIGN_OR_RETURN(const std::string text, ReadConfigFile(flag.value));
    HT_RETURN_IF_ERROR(Annotate(ApplyConfigText(text, line.config), flag.value));
  }
  for (const Flag& flag : flags) {
    if (flag.name == "config") continue;
    if (flag.name == "help" || flag.name == "version") {
      (flag.name == "help" ? line.help : line.version) = true;
      continue;
    }
    const Setting* setting = Find(flag.name);
    if (setting == nullptr) return UnknownSetting(flag.name);
    HT_RETURN_IF_ERROR(Set(*setting, flag.value, line.config));
  }
  return line;
}

std::string ConfigHelp() {
  std::string help =
      "usage: halftone-server [--SETTING=VALUE ...]\n\n"
      "  --config=PATH\n      YAML or JSON file with the same settings; flags win over it.\n";
  for (const Setting& s : kSettings) {
    absl::StrAppend(&help, "  --", s.name, " (default ", DefaultText(s), ")\n      ", s.help, "\n");
  }
  absl::StrAppend(&help, "  --version\n  --help\n");
  return help;
}

}  // namespace halftone
