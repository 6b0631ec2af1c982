# halftone_library(NAME DEPS ...)  every .cc of this folder (but main.cc) is target halftone::NAME
# halftone_test(NAME DEPS ... [LABELS ...])  tests/unit/<folder>/*_test.cc: one binary, one ctest entry
# halftone_program(NAME SRCS ... DEPS ...)
# halftone_fuzz(NAME SRCS ... DEPS ...)  tests/fuzz/NAME_fuzz.cc, see there
add_library(halftone_options INTERFACE)
# GCC 14 sees uninitialised bytes in every absl::InlinedVector that it inlines: a false alarm.
target_compile_options(halftone_options INTERFACE -Wall -Wextra -Werror -Wno-sign-compare
  -Wno-missing-field-initializers -ffp-contract=off)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(halftone_options INTERFACE -Wno-maybe-uninitialized)
else()
  # GCC's warnings are the rule; Clang is here for its fuzzer.
  target_compile_options(halftone_options INTERFACE -Wno-error)
endif()
target_include_directories(halftone_options INTERFACE ${PROJECT_SOURCE_DIR})
if(HALFTONE_SANITIZE)
  # The resolvers of function clones would run before the sanitizers are ready (and Clang cannot
  # clone templates).
  target_compile_options(halftone_options INTERFACE -fsanitize=${HALFTONE_SANITIZE}
    -fno-omit-frame-pointer -fno-sanitize-recover=all "-Dtarget_clones(...)=")
  if(HALFTONE_SANITIZE MATCHES "undefined")
    # Debian's Abseil is built without sanitizers: its headers must not assume otherwise, and GCC
    # rejects its flat_hash_map as a constant expression under the null checks.
    target_compile_options(halftone_options INTERFACE
      -fno-sanitize=null,nonnull-attribute,returns-nonnull-attribute)
    target_compile_definitions(halftone_options INTERFACE NDEBUG_SANITIZER)
  endif()
  target_link_options(halftone_options INTERFACE -fsanitize=${HALFTONE_SANITIZE})
  if(HALFTONE_SANITIZE MATCHES "thread")
    # See tests/testing/tsan_mutex.cc.
    foreach(symbol IN ITEMS _ZN4absl7debian75Mutex4LockEv _ZN4absl7debian75Mutex10ReaderLockEv
        _ZN4absl7debian75Mutex6UnlockEv _ZN4absl7debian75Mutex12ReaderUnlockEv
        _ZN4absl7debian712Notification6NotifyEv _ZNK4absl7debian712Notification19WaitForNotificationEv
        _ZN4absl7debian715BlockingCounter14DecrementCountEv _ZN4absl7debian715BlockingCounter4WaitEv
        _ZN4absl7debian77CondVar10WaitCommonEPNS0_5MutexENS0_24synchronization_internal13KernelTimeoutE
        _ZN4absl7debian75Mutex11AwaitCommonERKNS0_9ConditionENS0_24synchronization_internal13KernelTimeoutE)
      target_link_options(halftone_options INTERFACE -Wl,--wrap=${symbol})
    endforeach()
  endif()
endif()

function(halftone_library name)
  cmake_parse_arguments(ARG "" "" "DEPS;PRIVATE_DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
  add_library(halftone_${name} STATIC ${sources})
  add_library(halftone::${name} ALIAS halftone_${name})
  set_target_properties(halftone_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(halftone_${name} PUBLIC halftone_options ${ARG_DEPS}
    PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

function(halftone_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE halftone_options ${ARG_DEPS})
endfunction()

# Labels name the sanitizer presets that run the test in `./dev check`; default asan-ubsan.
function(halftone_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;FOLDER" "DEPS;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${ARG_FOLDER}/*.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE halftone_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  # Tests are compiled more often than they run.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT ARG_LABELS)
    set(ARG_LABELS asan-ubsan)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  # The long ones start first, so that none of them runs alone at the end.
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} COST ${ARG_TIMEOUT}
    ENVIRONMENT "ASAN_OPTIONS=allow_user_poisoning=0:detect_leaks=0")
endfunction()

# With the `fuzz` preset (clang) this is a libFuzzer program, fuzz_NAME. Everywhere else it is the
# test fuzz_NAME, which runs once over tests/fuzz/regressions/NAME/*: what was found stays fixed.
function(halftone_fuzz name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(fuzz_${name} ${name}_fuzz.cc ${ARG_SRCS})
  target_link_libraries(fuzz_${name} PRIVATE halftone_options ${ARG_DEPS})
  if(HALFTONE_SANITIZE MATCHES "fuzzer")
    target_sources(fuzz_${name} PRIVATE wire_mutator.cc custom_mutator.cc)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    return()
  endif()
  target_sources(fuzz_${name} PRIVATE replay_main.cc)
  add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${CMAKE_CURRENT_SOURCE_DIR}/regressions/${name})
  set_tests_properties(fuzz_${name} PROPERTIES LABELS asan-ubsan TIMEOUT 120
    ENVIRONMENT "ASAN_OPTIONS=allow_user_poisoning=0:detect_leaks=0")
endfunction()
