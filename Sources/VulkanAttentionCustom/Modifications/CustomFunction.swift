/// A modification as the shader has it: a function of GLSL.
struct CustomFunction: Hashable, Sendable {
  /// What tells the kernel that the function is there.
  let define: String
  /// The function's declaration.
  let head: String
  /// What is returned where the body's end is reached, which GLSL allows and does not define.
  let otherwise: String
  let bodySnippet: CustomSnippet
  let body: String
  let declarationsSnippet: CustomSnippet
  let declarations: String
  let buffers: [CustomBuffer]
  let scalars: [CustomScalar]
}
