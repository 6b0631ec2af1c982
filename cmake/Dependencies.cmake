# Every third-party library and its version, in one place. All are Debian 13 packages.
find_package(absl 20240722 REQUIRED)
find_package(dnnl 3.7 REQUIRED)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_package(OpenMP REQUIRED)
else()
  # oneDNN brings GCC's OpenMP, and two of them in one process do not go together: Clang (the fuzz
  # preset) compiles our parallel loops as plain ones. It cannot read GCC's header.
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/gomp/omp.h @ONLY CONTENT [[
extern "C" {
void omp_set_num_threads(int);
int omp_get_max_threads(void);
int omp_get_num_threads(void);
int omp_get_thread_num(void);
int omp_get_initial_device(void);
enum omp_pause_resource_t { omp_pause_soft = 1, omp_pause_hard = 2 };
int omp_pause_resource(omp_pause_resource_t, int);
}
]])
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)
  target_include_directories(OpenMP::OpenMP_CXX INTERFACE ${PROJECT_BINARY_DIR}/gomp)
  target_link_libraries(OpenMP::OpenMP_CXX INTERFACE gomp)
endif()
find_package(OpenSSL 3 REQUIRED)
find_package(Protobuf 3.21 REQUIRED)
find_package(ONNX 1.17 REQUIRED)
find_package(gRPC 1.51 CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)  # 1.0.2; the package states no version
find_package(yaml-cpp 0.8 REQUIRED)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(IMAGE_CODECS REQUIRED IMPORTED_TARGET libturbojpeg>=2.1 libpng>=1.6 libwebp>=1.5
  libtiff-4>=4.7 libopenjp2>=2.5)
if(HALFTONE_BUILD_TESTS)
  find_package(GTest 1.15 REQUIRED)
  find_package(benchmark 1.9 REQUIRED)
endif()
find_program(PROTOC protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
